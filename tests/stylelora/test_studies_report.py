"""Reports of made-up studies, whose numbers are known or computed here in another way."""

import csv
import json
import re
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.evaluation.finished import skill_by_timestep
from stylelora.metrics.comparison import holm
from stylelora.records import InputError, Quantity
from stylelora.studies.report import content, write_report
from stylelora.studies.report_design import design_of
from stylelora.studies.report_outcome import outcome_of
from stylelora.studies.report_pictures import matrix_of
from stylelora.studies.report_read import read_arms
from stylelora.studies.report_tables import latex, tex
from stylelora.studies.report_words import p_is
from tests.studies import RANK, SCORE, STYLE, noise, write_run, write_study

BLEND = "ink 0.6 + oil 0.4"
GAINS = {"4": 0.1, "16": 0.299, "64": 0.3}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_rank(levels):
    return GAINS[levels["rank"]]


def values(run, quantity, condition="ink 1"):
    """Values of a run's pictures, read from its file."""
    rows = map(json.loads, (run.folder / "test" / "values.jsonl").read_text().splitlines())
    return np.array([
        one["value"] for row in rows if row["condition"] == condition
        for one in row["values"] if one["measure"] == quantity.measure
    ])  # fmt: skip


def table_of(study, quantity):
    """Level -> table of training seeds x prompts."""
    return {
        label: np.array([values(run, quantity) for run in study.runs if run.levels["rank"] == label])
        for label in study.factors["rank"]
    }


def said(study):
    """All that the report of a study says, without figures."""
    found = read_arms(study)
    return repr(content(study, found, outcome_of(study, found)))


def test_means_and_differences_are_those_of_the_tables_of_seeds_and_prompts(home):
    study = write_study(home, gain=by_rank)
    found = read_arms(study)
    outcome = outcome_of(study, found)
    assert [arm.label for arm in found.arms] == ["rank 4", "rank 16", "rank 64"]
    style = table_of(study, STYLE)
    base = values(study.runs[0], STYLE, "base").mean()
    attained = {label: (table - base) / (style["64"].mean() - base) for label, table in style.items()}
    for arm in found.arms:
        mean, table = arm.series[outcome.primary].mean, attained[arm.levels["rank"]]
        errors = [stats.sem(table.mean(1)) * stats.t(2).ppf(0.975), stats.sem(table.mean(0)) * stats.t(19).ppf(0.975)]
        assert mean.value == pytest.approx(table.mean())
        assert mean.ci_high - mean.value == pytest.approx(np.hypot(*errors))
    assert [arm.label for arm in outcome.scale] == ["rank 64"]
    p_values, equal = {}, {}
    for one in outcome.differences:
        assert one.paired
        assert one.first.label == "rank 64"
        table = attained[one.this.levels["rank"]] - attained["64"]
        assert one.test.difference.value == pytest.approx(table.mean())
        errors = [stats.sem(table.mean(1)), stats.sem(table.mean(0))]

        def width(level, errors=errors):
            return np.hypot(*(e * stats.t(n).ppf(1 - level / 2) for e, n in zip(errors, (2, 19), strict=True)))

        assert width(one.test.p_value) == pytest.approx(abs(table.mean()), rel=1e-6)
        assert width(2 * one.p_equal) == pytest.approx(0.1 - abs(table.mean()), rel=1e-6) or one.p_equal > 0.5
        p_values[one.this.label], equal[one.this.label] = one.test.p_value, one.p_equal
    assert {one.this.label: one.p_holm for one in outcome.differences} == pytest.approx(holm(p_values))
    assert {one.this.label: one.p_equal_holm for one in outcome.differences} == pytest.approx(holm(equal))
    assert [one.verdict for one in outcome.differences] == ["lower", "equal to within the margin"]


def test_the_trend_is_counted_over_all_arrangements_of_the_adapters(home):
    study = write_study(home, gain=by_rank, seed_sd=0.08)
    (one,) = outcome_of(study, read_arms(study)).responses
    means = [values(run, STYLE).mean() for run in study.runs]
    ranks = [study.factors["rank"].index(run.levels["rank"]) for run in study.runs]

    def score(order):
        return sum(np.sign(order[j] - order[i]) * np.sign(means[j] - means[i]) for i in range(9) for j in range(i))

    scores = {order: abs(score(order)) for order in set(permutations(ranks))}
    assert len(scores) == 1680
    assert one.trend.p_value == pytest.approx(np.mean(np.array([*scores.values()]) >= abs(score(ranks))))
    assert one.trend.p_value < 1
    assert one.trend.tau == pytest.approx(stats.kendalltau(ranks, means).statistic)
    assert one.p_holm == one.trend.p_value
    attained = [[*map(np.mean, table)] for table in table_of(study, STYLE).values()]
    gain = np.mean(attained[-1]) - values(study.runs[0], STYLE, "base").mean()
    assert one.slope.value == pytest.approx(np.polyfit(range(3), np.mean(attained, 1), 1)[0] / gain)
    steps = (table_of(study, STYLE)["64"] - table_of(study, STYLE)["4"]) / 2 / gain  # the slope of each cell
    errors = [stats.sem(steps.mean(axis)) * stats.t(n - 1).ppf(0.975) for axis, n in ((1, 3), (0, 20))]
    assert one.slope.ci_high - one.slope.value == pytest.approx(np.hypot(*errors))


def test_a_difference_counts_only_if_it_does_after_adjustment(home):
    study = write_study(home, gain=by_rank)
    one = outcome_of(study, read_arms(study)).differences[0]
    assert one.test.p_value < 0.05
    assert replace(one, p_holm=0.06, p_equal_holm=0.06).verdict == "undecided"
    assert replace(one, p_holm=0.05, p_equal_holm=0.06).verdict == "lower"
    assert replace(one, p_holm=0.05, p_equal_holm=0.05).verdict == "lower, but equal to within the margin"
    assert replace(one, p_holm=0.06, p_equal_holm=None).verdict == "undecided"


def test_the_lowest_sufficient_level_is_equal_as_are_all_above(home):
    study = write_study(home, gain=by_rank)
    (one,) = outcome_of(study, read_arms(study)).sufficient
    assert one.level == "16"
    middle = write_study(home, gain=lambda levels: {"4": 0.3, "16": 0.1, "64": 0.3}[levels["rank"]])
    (one,) = outcome_of(middle, read_arms(middle)).sufficient
    assert one.level is None, "rank 4 is equal, but rank 16 between is not"


def test_a_failed_run_is_named_and_the_rest_counts(home):
    study = write_study(home, gain=by_rank)
    failed, gone, untested = study.runs[0], study.runs[4], study.runs[8]
    result = json.loads((failed.folder / "result.json").read_text())
    error = {"status": "failed", "error": "Traceback\nInputError: the loss is not a number"}
    (failed.folder / "result.json").write_text(json.dumps(result | error))
    (gone.folder / "result.json").unlink()
    (untested.folder / "test" / "result.json").unlink()
    found = read_arms(study)
    assert found.excluded == {
        "rank 4, seed 0": "training failed: InputError: the loss is not a number",
        "rank 16, seed 1": "training: not run",
        "rank 64, seed 2": "test: not run",
    }
    outcome = outcome_of(study, found)
    assert [arm.seeds for arm in found.arms] == [[1, 2], [0, 2], [0, 1]]
    assert not any(one.paired for one in outcome.differences), "each arm has seeds of its own"
    tables = [np.array([values(run, STYLE) for run in study.runs if run.label in labels]) for labels in (
        ("rank 4, seed 1", "rank 4, seed 2"), ("rank 64, seed 0", "rank 64, seed 1"))]  # fmt: skip
    first = outcome.differences[0].test.difference
    span = tables[1].mean() - values(study.runs[0], STYLE, "base").mean()
    assert first.value == pytest.approx((tables[0].mean() - tables[1].mean()) / span)
    parts = [stats.sem(table.mean(1)) * stats.t(1).ppf(0.975) for table in tables]
    parts.append(stats.sem(tables[0].mean(0) - tables[1].mean(0)) * stats.t(19).ppf(0.975))
    assert first.ci_high - first.value == pytest.approx(np.linalg.norm(parts) / span)
    assert "the loss is not a number" in said(study)
    assert "3 of 9 runs are not counted" in said(study)


def test_an_arm_without_runs_is_not_among_the_tests_that_holm_adjusts(home):
    study = write_study(home, RANK.replace("compare: trend", "compare: all"), gain=by_rank)
    whole = outcome_of(study, read_arms(study))
    assert len(whole.differences) == 3
    for run in study.runs[:3]:
        (run.folder / "result.json").unlink()
    found = read_arms(study)
    (one,) = outcome_of(study, found).differences
    assert one.p_holm == one.test.p_value
    for run in study.runs[6:]:
        (run.folder / "result.json").unlink()
    found = read_arms(study)
    assert outcome_of(study, found).differences == []
    assert "in 1 arm," in said(study)


def test_the_arm_that_is_1_may_be_missing_or_show_nothing(home):
    study = write_study(home, RANK.replace("compare: trend", "compare: {against: '16'}"), gain=by_rank)
    assert [one.this.label for one in outcome_of(study, read_arms(study)).differences] == ["rank 4", "rank 64"]
    for run in study.runs[3:6]:
        (run.folder / "result.json").unlink()
    found = read_arms(study)
    outcome = outcome_of(study, found)
    assert outcome.primary is None
    assert "attainment of ink: rank 16, which would be 1, has no finished run" in outcome.unmeasured
    assert "The primary metric could not be measured, so the question is not answered." in said(study)
    flat = write_study(home, gain=lambda levels: 0.0, seed_sd=0)
    outcome = outcome_of(flat, read_arms(flat))
    assert outcome.primary is None
    assert any("rank 64, which would be 1, is not clearly nearer" in one for one in outcome.unmeasured)


def test_other_metrics_need_no_scale(home):
    for metric, measure in (("style_gain", "style_gain"), ("skill", "skill"), ("clip_score[mini]", "clip_score")):
        study = write_study(home, RANK + f"metric: {metric}\n", gain=by_rank)
        outcome = outcome_of(study, read_arms(study))
        assert outcome.primary.measure == measure
        assert len(outcome.differences) == 2
    study = write_study(home, RANK + "metric: nonsense\n", gain=by_rank)
    assert outcome_of(study, read_arms(study)).unmeasured == [
        "the primary metric nonsense; there are attainment, clip_score, skill, style, style_gain"
    ]


def test_one_training_seed_is_said_to_speak_for_its_adapter_only(home):
    study = write_study(home, RANK.replace("seeds: 3", "seeds: [7]").replace("trend", "all"), gain=by_rank)
    outcome = outcome_of(study, read_arms(study))
    first = outcome.differences[0]
    differences = values(study.runs[1], STYLE) - values(study.runs[0], STYLE)
    span = values(study.runs[0], STYLE).mean() - values(study.runs[0], STYLE, "base").mean()
    assert first.test.difference.value == pytest.approx(differences.mean() / span)
    assert "for these very adapters" in said(study)
    assert "bootstrap over prompts" in said(study)


def test_two_factors_have_a_trend_each_and_their_own_last_level(home):
    text = RANK.replace("factors:\n", "factors:\n  data.flip: [true, false]\n").replace("trend", "{trend: rank}")
    study = write_study(home, text, gain=lambda levels: by_rank(levels) * (1 if levels["flip"] == "true" else 0.5))
    found = read_arms(study)
    outcome = outcome_of(study, found)
    assert [one.others for one in outcome.responses] == [{"flip": "true"}, {"flip": "false"}]
    p_values = {str(i): one.trend.p_value for i, one in enumerate(outcome.responses)}
    assert [one.p_holm for one in outcome.responses] == pytest.approx([*holm(p_values).values()])
    assert {(one.this.levels["flip"], one.first.label) for one in outcome.differences} == {
        ("true", "flip true, rank 64"),
        ("false", "flip false, rank 64"),
    }
    assert [arm.label for arm in outcome.scale] == ["flip true, rank 64"]
    assert design_of(study, found).varied == [
        ("flip", "true", "data.flip true"),
        ("flip", "false", "data.flip false"),
        *(("rank", label, f"model.rank {label}, model.alpha {label}") for label in ("4", "16", "64")),
    ]


@pytest.mark.slow
def test_a_report_without_its_primary_metric_is_the_same_each_time(home):
    study = write_study(home, RANK + "metric: nonsense\n", gain=by_rank)
    for name in ("one", "two"):
        write_report(study, home / name)
    for file in (home / "one").iterdir():
        assert file.read_bytes() == (home / "two" / file.name).read_bytes(), file.name
    assert not (home / "one" / "response.svg").exists()


def test_the_report_is_whole(home):
    study = write_study(home, gain=by_rank, pictures=True)
    page = write_report(study, home / "one")
    assert page == home / "one" / "report.html"
    names = {file.name for file in (home / "one").iterdir()}
    figures = {f"{name}.{kind}" for name in ("response", "differences", "timesteps") for kind in ("svg", "png")}
    assert names == {"report.html", "report.md", "report.json", "table.csv", "table.tex", "pictures.png"} | figures
    assert sum((home / "one" / name).stat().st_size for name in names) < 1_000_000
    text = page.read_text()
    for said in (
        "How large must the rank be?",
        "A rank of 16 is enough.",
        "Rank 4 loses &lt;content&gt; &amp; style.",
        "Attainment rises along rank from 4 to 64",
        "the two are equal to within 0.1",
        "The lowest rank that is shown to equal rank 64 to within 0.1, as are all between, is 16",
        "9 LoRAs of the style ink were trained on the base mini (",
        "from 71 pictures, in 3 arms that differ in rank, with the training seeds 0, 1, 2.",
        "Each arm drew 20 prompts, 1 picture of each, such as thing 0, thing 1, thing 2.",
        "0 is the mean of the base, 1 that of rank 64",
        "python cli.py study study.yaml",
        "model.rank 16, model.alpha 16",
        "<code>model.rank</code>: rank of the LoRA; a higher rank can learn more",
        "rank 16, seed 0",
        "2.13.0",
        "CC0-1.0",
    ):
        assert said in text, said
    assert "rank_16" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL), "a folder's name is no label"
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text), "the page needs no other file"
    ids = re.findall(r' id="([^"]+)"', text)
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)) <= {(one, "") for one in ids} | {
        ("", one) for one in ids
    }
    markdown = (home / "one" / "report.md").read_text()
    assert "Rank 4 loses <content> & style." in markdown
    for picture in re.findall(r"\]\((\S+)\)", markdown):
        assert (home / "one" / picture).is_file()
    check_tables(study, home / "one")


def check_tables(study, folder):
    """The tables for programs hold the numbers of the report."""
    with (folder / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "clip_score"]
    assert len(rows) == 1 + 3 * (1 + 3)
    want = table_of(study, SCORE)
    for row in rows[1:]:
        table = want[row["rank"]]
        mean = table.mean() if row["seed"] == "" else table[int(row["seed"])].mean()
        assert float(row["value"]) == pytest.approx(mean)
        assert (row["seeds"], row["units"], row["primary"]) == ("3", "20", "False")
    record = json.loads((folder / "report.json").read_text())
    differences = outcome_of(study, read_arms(study)).differences
    assert [one["p_holm"] for one in record["differences"]] == [one.p_holm for one in differences]
    assert record["runs"]["rank 16, seed 1"]["pictures"] == "71"
    assert record["scale"] == ["rank 64"]
    assert record["versions"]["code"] == "abc123"


def test_the_matrix_has_the_base_first_and_each_arm_at_one_seed_and_the_same_prompts(home):
    study = write_study(home, gain=by_rank, pictures=True)
    (study.runs[0].folder / "result.json").unlink()  # so that seed 0 is not in all arms
    matrix = matrix_of(read_arms(study))
    assert matrix.seed == 1
    assert matrix.which.startswith("One prompt in 3 is shown")
    assert matrix.prompts == [f"thing {i}" for i in range(0, 18, 3)]
    assert list(matrix.rows) == ["base", "rank 4", "rank 16", "rank 64"]
    shades = {}
    for label, files in matrix.rows.items():
        assert [file.stem.split("-")[1] for file in files] == [str(i) for i in range(0, 18, 3)]
        with Image.open(files[0]) as picture:
            shades[label] = picture.getpixel((0, 0))[0]
    assert shades["base"] == 60
    assert 60 < shades["rank 4"] < shades["rank 16"]
    assert {files[0].parent for label, files in matrix.rows.items() if label != "base"} == {
        run.folder / "test" for run in study.runs if run.seed == 1
    }
    matrix.rows["rank 4"][3].unlink()
    assert matrix_of(read_arms(study)) is None


def test_skill_by_timestep_is_the_share_of_the_loss_removed_at_each(tmp_path):
    losses = {name: noise(name, size=(6, 8)) ** 2 + 0.1 for name in ("base", "ink 1")}
    rows = [
        {"condition": name, "style": "ink", "sha256": str(i), "losses": row.tolist()}
        for name, table in losses.items()
        for i, row in enumerate(table)
    ]
    (tmp_path / "losses.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = skill_by_timestep(tmp_path)
    assert list(found) == ["ink 1"]
    assert [quantity.at for quantity in found["ink 1"]] == [(timestep,) for timestep in BANK_TIMESTEPS]
    for column, one in enumerate(found["ink 1"].values()):
        want = 1 - losses["ink 1"][:, column].sum() / losses["base"][:, column].sum()
        assert one.mean.value == pytest.approx(want)


def test_p_values_are_said_as_papers_do():
    assert [p_is(p) for p in (0.04, 0.00005, 0.00004, 1.0)] == ["p = 0.0400", "p = 0.0001", "p < 0.0001", "p = 1.0000"]


def test_latex_has_as_many_cells_in_each_row_and_no_open_commands(home):
    study = write_study(home, RANK.replace("How large", "100 % of $5 & a_b#1, how large"), gain=by_rank)
    found = read_arms(study)
    text = latex(study, found, outcome_of(study, found))
    assert r"100 \% of \$5 \& a\_b\#1" in text
    for table in re.findall(r"\\begin\{tabular\}\{@\{\}(l+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 3
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(table[0])}
    assert text.count("{") == text.count("}")
    assert tex("[a]") == "{[}a]"
    assert tex("-0.65 (-0.8 to 0.1) <0.0001 \\x~^") == (
        r"$-$0.65 [$-$0.8, 0.1] $<$0.0001 \textbackslash{}x\textasciitilde{}\textasciicircum{}"
    )


TOGETHER = (
    RANK[: RANK.index("factors:")]
    + """factors:
  style: {ink: {data.root: a}, oil: {data.root: b}}
together: style
seeds: 3
test: test.yaml
"""
)


def blends_study(home, metric, quantities):
    """A study of blends; a condition has the level of a quantity that it is given, above the base's 0.5."""
    study = write_study(home, f"{TOGETHER}metric: {metric}\n", gain=lambda levels: 0.1)
    for test in study.tests:
        conditions = {
            name: {
                quantity: lambda i, j, level=level, test=test: 0.5 + level + 0.01 * (i % 4) + 0.001 * test.runs[0].seed
                for quantity, level in own.items()
            }
            for name, own in quantities.items()
        }
        write_result(test.folder, conditions)
    return study


def test_of_runs_that_are_tested_together_the_conditions_with_the_metric_are_arms(home):
    both = Quantity("both_score", "mini-style")
    quantities = {name: {SCORE: 0.0} for name in ("base", "ink 1", "oil 1")}
    quantities |= {BLEND: {both: 0.2, SCORE: 0.0}, f"{BLEND}, composite": {both: 0.23, SCORE: 0.0}}
    study = blends_study(home, "both_score", quantities)
    found = read_arms(study)
    assert [arm.label for arm in found.arms] == ["method sum", "method composite"]
    (one,) = outcome_of(study, found).differences
    assert one.test.difference.value == pytest.approx(0.03)
    assert one.this.label == "method composite"
    assert "of method composite is 0.030 (0.030 to 0.030) higher than of method sum" in said(study)
    study = replace(study, compare="against", against={"method": "composite"})
    (one,) = outcome_of(study, read_arms(study)).differences
    assert (one.this.label, one.first.label) == ("method sum", "method composite")
    study = replace(study, compare="against", against={"method": "none"})
    outcome = outcome_of(study, read_arms(study))
    assert outcome.differences == []
    assert "method sum minus method none: the latter has no finished run" in outcome.unmeasured


def test_a_seed_whose_test_lacks_the_metric_is_named(home):
    both = Quantity("both_score", "mini-style")
    study = blends_study(
        home, "both_score", {"base": {SCORE: 0.0}, BLEND: {both: 0.2}, f"{BLEND}, composite": {both: 0.3}}
    )
    write_result(study.tests[1].folder, {"base": {SCORE: lambda i, j: 0.5}, BLEND: {both: lambda i, j: 0.7 + 0.01 * i}})
    found = read_arms(study)
    assert [arm.seeds for arm in found.arms] == [[0, 1, 2], [0, 2]]
    assert found.excluded == {"method composite, seed 1": "its test has no both_score"}


def test_adapters_of_other_styles_that_are_tested_alone_are_told_by_their_own_factor(home):
    text = RANK.replace("trend", "all").replace('"4": {model.rank: 4, model.alpha: 4}', '"4": {data.root: a}')
    study = write_study(home, text + "metric: style_gain\n", gain=by_rank)
    values_file = study.runs[0].folder / "test" / "values.jsonl"
    values_file.write_text(values_file.read_text().replace("ink", "oil"))
    for name in ("losses.jsonl", "pictures.jsonl"):
        file = study.runs[0].folder / "test" / name
        file.write_text(file.read_text().replace("ink", "oil"))
    assert [list(arm.levels) for arm in read_arms(replace(study, runs=study.runs[:1] + study.runs[3:])).arms] == [
        ["rank"]
    ] * 3


def test_arms_of_several_styles_are_compared_with_the_base_each_by_its_own_style(home):
    ink, oil = (Quantity("style", "mini-style", style) for style in ("ink", "oil"))
    quantities = {"base": {ink: 0.0, oil: 0.1}, "ink 1": {ink: 0.2, oil: 0.3}, "oil 1": {ink: 0.0, oil: 0.2}}
    quantities |= {BLEND: {ink: 0.12, oil: 0.13}}  # of two styles: its gain is not one number
    study = blends_study(home, "style_gain", quantities)
    found = read_arms(study)
    assert [arm.label for arm in found.arms] == ["adapters ink 1", "adapters oil 1"]
    outcome = outcome_of(study, found)
    assert [one.first.label for one in outcome.differences] == ["the base"] * 2
    assert [one.test.difference.value for one in outcome.differences] == pytest.approx([0.2, 0.1])
    assert "of adapters oil 1 is 0.100 (0.100 to 0.100) higher than the base" in said(study)
    assert "arms of different styles cannot be compared with one another" in said(study)


def write_result(folder, conditions):
    from tests.finished import write_finished
    from tests.studies import VERSIONS

    write_finished(folder, conditions)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | VERSIONS))


def test_what_cannot_be_reported_is_refused(home, monkeypatch):
    study = write_study(home, gain=by_rank)
    write_run(study.runs[4], 0.3, prompts=19)
    with pytest.raises(InputError, match="rank 16 has other prompts or held-out pictures than rank 4"):
        write_report(study, home / "report")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="need matplotlib, which is not installed"):
        write_report(study, home / "report")
    monkeypatch.undo()
    monkeypatch.chdir(home)
    for run in study.runs:
        (run.folder / "result.json").unlink()
    with pytest.raises(InputError, match=r"no run of study.yaml is finished"):
        write_report(study, home / "report")
    assert not (home / "report").exists()
