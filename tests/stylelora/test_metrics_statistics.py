import numpy as np
import pytest
import torch

from stylelora.metrics import statistics
from stylelora.metrics.statistics import mean_interval, skill_interval
from stylelora.records import InputError, Metric


def test_mean_is_the_plain_mean_and_n_counts_units():
    got = mean_interval([1.0, 2.0, 3.0, 10.0], groups=["a", "a", "a", "b"], higher_is_better=False)
    assert isinstance(got, Metric)
    assert got.value == 4.0
    assert got.n == 2
    assert got.higher_is_better is False
    assert got.ci_low == 2.0  # every draw was group a, or every draw was group b
    assert got.ci_high == 10.0


def test_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for dataset in range(200):
        values = generator.exponential(2.0, size=60)  # skewed, so that nothing rests on normality
        got = mean_interval(values, resamples=300, seed=dataset)
        covered += got.ci_low <= 2.0 <= got.ci_high
    assert 0.90 <= covered / 200 <= 0.98


def test_clustered_interval_covers_where_the_independent_one_does_not():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 4)
    covered = {"by prompt": 0, "by picture": 0}
    widths = {"by prompt": [], "by picture": []}
    for dataset in range(200):
        values = generator.normal(size=30)[groups] + 0.5 * generator.normal(size=120)  # seeds of a prompt agree
        for name, unit in {"by prompt": groups, "by picture": None}.items():
            got = mean_interval(values, groups=unit, resamples=300, seed=dataset)
            covered[name] += got.ci_low <= 0 <= got.ci_high
            widths[name].append(got.ci_high - got.ci_low)
    assert 0.88 <= covered["by prompt"] / 200 <= 0.98
    assert covered["by picture"] / 200 < 0.85
    assert np.mean(widths["by prompt"]) > 1.5 * np.mean(widths["by picture"])


def test_interval_matches_a_loop_over_prompts():
    generator = np.random.default_rng(3)
    groups = generator.integers(8, size=50)
    values = generator.normal(size=50) + groups
    got = mean_interval(values, groups=groups, level=0.8, resamples=4000)
    means = [
        np.concatenate([values[groups == pick] for pick in generator.choice(np.unique(groups), 8)]).mean()
        for _ in range(4000)
    ]
    assert got.ci_low == pytest.approx(np.quantile(means, 0.1), abs=0.1)
    assert got.ci_high == pytest.approx(np.quantile(means, 0.9), abs=0.1)


def test_groups_of_any_kind_mean_the_same():
    values = np.random.default_rng(4).normal(size=12)
    numbers = torch.arange(12) // 3
    want = mean_interval(values, groups=numbers.tolist(), resamples=100)
    assert want.n == 4
    assert mean_interval(values, groups=numbers, resamples=100) == want
    assert mean_interval(torch.from_numpy(values), groups=[("style", int(k)) for k in numbers], resamples=100) == want


def test_skill_is_one_minus_the_ratio_of_sums_with_paired_pictures():
    generator = np.random.default_rng(5)
    base = generator.uniform(0.01, 1.0, size=40)
    loss = base * generator.uniform(0.7, 0.9, size=40)
    got = skill_interval(loss, base, resamples=4000)
    assert got.value == pytest.approx(1 - loss.mean() / base.mean(), abs=1e-12)
    picks = [generator.integers(40, size=40) for _ in range(4000)]
    brute = [1 - loss[rows].sum() / base[rows].sum() for rows in picks]
    assert got.ci_low == pytest.approx(np.quantile(brute, 0.025), abs=0.004)
    assert got.ci_high == pytest.approx(np.quantile(brute, 0.975), abs=0.004)
    assert got.ci_low < got.value < got.ci_high
    assert got.n == 40
    assert got.higher_is_better


def test_skill_of_the_base_itself_is_exactly_zero():
    loss = np.random.default_rng(6).uniform(0.01, 1.0, size=17).astype(np.float32)
    assert skill_interval(loss, loss) == Metric(0.0, 0.0, 0.0, 17, True)


def test_an_interval_is_a_function_of_its_arguments_alone():
    values = np.random.default_rng(7).normal(size=20)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first = mean_interval(values)
    np.random.seed(1)
    assert mean_interval(values) == first
    assert mean_interval(values, seed=1) != first
    np.random.seed(0)
    mean_interval(values)
    assert (np.random.get_state()[1] == state).all()


def test_chunks_bound_memory_and_leave_the_number_of_resamples(monkeypatch):
    values = np.random.default_rng(8).normal(size=10)
    want = mean_interval(values, resamples=2000)
    monkeypatch.setattr(statistics, "CHUNK", 70)
    got = mean_interval(values, resamples=2000)
    assert got.ci_low == pytest.approx(want.ci_low, abs=0.1)
    assert got.ci_high == pytest.approx(want.ci_high, abs=0.1)


def test_one_unit_bounds_nothing():
    assert mean_interval([1.0, 3.0], groups=["a", "a"]) == Metric(2.0, -np.inf, np.inf, 1, True)
    assert skill_interval([1.0], [2.0]) == Metric(0.5, -np.inf, np.inf, 1, True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([]),
        lambda: mean_interval([1.0, float("nan")]),
        lambda: mean_interval([[1.0, 2.0]]),
        lambda: mean_interval([1.0, 2.0], groups=["a"]),
        lambda: mean_interval([1.0, 2.0], level=95),
        lambda: mean_interval([1.0, 2.0], resamples=0),
        lambda: skill_interval([], []),
        lambda: skill_interval([1.0, 2.0], [1.0]),
        lambda: skill_interval([1.0], [0.0]),
        lambda: skill_interval([float("inf")], [1.0]),
    ],
)
def test_what_has_no_interval_is_refused(call):
    with pytest.raises(InputError):
        call()
