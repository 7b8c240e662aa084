"""Reports of runs that are tested together, and of arms of several styles."""

import json
from dataclasses import replace

import pytest

from stylelora.metrics.both import BOTH_ABOVE_COIN_FLIP, BOTH_SCORE_OF_BASE, COIN_FLIP
from stylelora.metrics.style import STYLE_GAIN_OF_REAL
from stylelora.records import Endpoint, Estimate, Quantity
from stylelora.studies.plan import mixture, named
from stylelora.studies.report_outcome import outcome_of
from stylelora.studies.report_read import read_arms
from stylelora.studies.report_tables import arms_table, endpoints_table, records
from stylelora.studies.report_words import answer
from tests.studies import RANK, SCORE, by_rank, said, write_study

BLEND = "ink 0.6 + oil 0.4"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert [arm.label for arm in found.arms] == ["the ink adapter", "the oil adapter"]
    outcome = outcome_of(study, found)
    assert [one.first.label for one in outcome.differences] == ["the base"] * 2
    assert [one.test.difference.value for one in outcome.differences] == pytest.approx([0.2, 0.1])
    assert "of the oil adapter is 0.100 (0.100 to 0.100) higher than the base; adjusted p" in said(study)
    assert "real pictures" not in said(study).partition("'limits'")[0], "no test has measured them"
    assert "What real pictures of the style would reach in style gain was not measured" in said(study)
    assert "arms of different styles cannot be compared with one another" in said(study)


def test_recipes_whose_styles_are_tested_together_have_one_scale_of_attainment(home):
    """A test's own scale calls its own adapter 1, whatever it reaches; of one that reaches nothing it has none."""
    text = TOGETHER.replace("factors:\n", "factors:\n  model.rank: [4, 16]\n")
    text += "metric: attainment\ncompare: {against: {rank: 4}}\n"
    study = write_study(home, text, gain=lambda levels: 0.1)
    for test in study.tests:
        reached = {"4": 0.2, "16": 0.3}[test.levels["rank"]]
        conditions = {}
        for name, levels in {"base": (0, 0), "ink 1": (reached, 0), "oil 1": (0, 2 * reached)}.items():
            own = {}
            for style, level in zip(("ink", "oil"), levels, strict=True):
                own[Quantity("style", "mini-style", style)] = lambda i, j, level=level: level + 0.01 * (i % 4)
                if name.startswith(style) and (style, reached) != ("oil", 0.3):
                    own[Quantity("attainment", "mini-style", style)] = lambda i, j: 1 + 0.01 * (i % 4)
            conditions[name] = own
        write_result(test.folder, conditions)
    found = read_arms(study)
    outcome = outcome_of(study, found)
    assert [arm.label for arm in outcome.scale] == [f"rank 4, the {style} adapter" for style in ("ink", "oil")]
    assert [one.this.label for one in outcome.differences] == [
        f"rank 16, the {style} adapter" for style in ("ink", "oil")
    ]
    assert [one.test.difference.value for one in outcome.differences] == pytest.approx([0.5, 0.5])


def test_a_claim_has_one_p_value_and_a_gain_stands_beside_that_of_real_pictures(home):
    ink, oil = (Quantity("style", "mini-style", style) for style in ("ink", "oil"))
    gain, both = Quantity("style_gain", "mini-style", "ink"), Quantity("both_above_coin_flip", "mini-style")
    quantities = {"base": {ink: 0.0, oil: 0.1}, "ink 1": {ink: 0.2, oil: 0.3}, "oil 1": {ink: 0.0, oil: 0.2}, BLEND: {}}
    study = blends_study(home, "style_gain", quantities)
    for test in study.tests:
        result = json.loads((test.folder / "result.json").read_text())
        real = STYLE_GAIN_OF_REAL.of(Estimate(0.25, 0.2, 0.3, 9), "base", "mini-style", "ink")
        flip = BOTH_ABOVE_COIN_FLIP.of(Estimate(0.4, 0.3, 0.6, 20), BLEND, "mini-style")
        base = BOTH_SCORE_OF_BASE.of(Estimate(-0.5, -0.6, -0.4, 20), BLEND, "mini-style")
        coin = COIN_FLIP.of(Estimate(-1.25, -1.5, -1.0, 20), BLEND, "mini-style")
        tests = [Endpoint("ink 1", gain, 0.2, 0.0123, 0.0246), Endpoint(BLEND, both, 0.4, 0.0123, 0.0246)]
        result |= {
            "metrics": [one.as_record() for one in (real, flip, base, coin)],
            "tests": [one.as_record() for one in tests],
        }
        (test.folder / "result.json").write_text(json.dumps(result))
    found = read_arms(study)
    outcome = outcome_of(study, found)
    heading, rows = arms_table(found, outcome)
    beside = heading.index("style gain") + 1
    assert heading[beside] == "style gain of real pictures"
    assert [row[beside] for row in rows] == ["-", "0.250 (0.200 to 0.300)", "-"]
    (row,) = [one for one in records(found, outcome) if one["measure"] == "style_gain_of_real_pictures"]
    assert (row["arm"], row["style"], row["value"], row["units"]) == ("the ink adapter", "ink", 0.25, 9)
    sentences = answer(study, found, outcome)
    gained = next(one for one in sentences if "the ink adapter" in one)
    assert gained.endswith("; real pictures of the style reach 0.250.")
    assert not [one for one in sentences if "the oil adapter" in one and "real pictures" in one]
    blend = "the blend of 0.6 ink and 0.4 oil"
    assert [row[1:] for row in endpoints_table(study, found, outcome)[1]] == [
        [blend, "both-score above coin flip, by mini-style", "0.400 (0.300 to 0.600)", "0.750", "0.0123", "0.0246"]
    ] * 3, "the gain is what the study compares itself"
    assert f"coin flip of {blend} is 0.400 (0.300 to 0.600); p = 0.0246, adjusted over the endpoints" in said(study)
    assert "of the test; that of the pictures of the base is 0.750." in said(study), "-0.5 minus the coin's -1.25"
    study = replace(study, metric="style")  # arms are compared with nothing, so the gains are only the tests' own
    found = read_arms(study)
    outcome = replace(outcome, differences=[])
    assert {row[1] for row in endpoints_table(study, found, outcome)[1]} == {"the ink adapter", blend}


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("ink 1", "the ink adapter"),
        ("ink 0.5", "the ink adapter at weight 0.5"),
        ("ink 0.6 + oil 0.4", "the blend of 0.6 ink and 0.4 oil"),
        ("ink 0.6 + oil 0.4, composite", "the blend of 0.6 ink and 0.4 oil, composite"),
        ("base", "base"),
    ],
)
def test_conditions_are_named_in_words(condition, words):
    assert mixture(condition) == words
    assert named({"rank": "4", "adapters": condition}) == f"rank 4, {words}"


def write_result(folder, conditions):
    from tests.finished import write_finished
    from tests.studies import VERSIONS

    write_finished(folder, conditions)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | VERSIONS))
