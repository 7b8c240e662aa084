"""What a report finds in made-up studies, whose numbers are known or computed here in another way."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.comparison import holm
from stylelora.studies.report_design import design_of
from stylelora.studies.report_outcome import outcome_of
from stylelora.studies.report_read import read_arms
from tests.studies import RANK, STYLE, by_rank, said, table_of, values, write_study


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
        "the primary metric nonsense; there are attainment, clip_score, clip_score_change, skill, style, style_gain"
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
