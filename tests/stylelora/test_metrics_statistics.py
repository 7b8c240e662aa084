import numpy as np
import pytest
import torch
from scipy import stats

from stylelora.metrics import statistics
from stylelora.metrics.skill import SKILL, skill_interval
from stylelora.metrics.statistics import mean_interval, ratio_interval, share_interval
from stylelora.records import Estimate, InputError


def test_mean_is_the_plain_mean_and_n_counts_units():
    got = mean_interval([1.0, 2.0, 3.0, 10.0], groups=["a", "a", "a", "b"])
    assert isinstance(got, Estimate)
    assert got.value == 4.0
    assert got.n == 2
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
    tail = stats.norm.cdf(np.sqrt(8 / 7) * stats.t(7).ppf(0.1))  # as far out as a t interval with the true variance
    assert 0.05 < tail < 0.08
    assert got.ci_low == pytest.approx(np.quantile(means, tail), abs=0.1)
    assert got.ci_high == pytest.approx(np.quantile(means, 1 - tail), abs=0.1)


@pytest.mark.parametrize("prompts", [6, 12, 40])
def test_interval_matches_cluster_robust_t_in_a_balanced_design(prompts):
    generator = np.random.default_rng(prompts)
    groups = np.repeat(np.arange(prompts), 4)
    values = stats.norm.ppf((np.arange(prompts) + 0.5) / prompts)[groups] + 0.3 * generator.normal(size=prompts * 4)
    got = mean_interval(values, groups)
    want = stats.ttest_1samp(values.reshape(prompts, 4).mean(1), 0).confidence_interval(0.95)
    naive = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    width = want.high - want.low
    assert got.ci_low == pytest.approx(want.low, abs=0.06 * width)
    assert got.ci_high == pytest.approx(want.high, abs=0.06 * width)
    assert naive.high - naive.low < 0.6 * width


def test_groups_of_any_kind_mean_the_same():
    values = np.random.default_rng(4).normal(size=12)
    numbers = torch.arange(12) // 3
    want = mean_interval(values, groups=numbers.tolist(), resamples=100)
    assert want.n == 4
    assert mean_interval(values, groups=numbers, resamples=100) == want
    assert mean_interval(torch.from_numpy(values), groups=[("style", int(k)) for k in numbers], resamples=100) == want


def test_ratio_matches_a_loop_over_prompts():
    generator = np.random.default_rng(9)
    groups = generator.integers(20, size=80)
    bottom = 0.5 + 0.2 * generator.normal(size=20)[groups] + 0.1 * generator.normal(size=80)
    top = 0.6 * bottom + 0.1 * generator.normal(size=80)
    got = ratio_interval(top, bottom, groups, level=0.9, resamples=4000)
    assert got.value == pytest.approx(top.mean() / bottom.mean(), abs=1e-12)
    assert got.n == 20
    brute = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == pick) for pick in generator.integers(20, size=20)])
        brute.append(top[rows].sum() / bottom[rows].sum())
    tail = stats.norm.cdf(np.sqrt(20 / 19) * stats.t(19).ppf(0.05))
    width = got.ci_high - got.ci_low
    assert got.ci_low == pytest.approx(np.quantile(brute, tail), abs=0.06 * width)
    assert got.ci_high == pytest.approx(np.quantile(brute, 1 - tail), abs=0.06 * width)


def test_ratio_agrees_with_fieller():
    generator = np.random.default_rng(10)
    bottom = 0.5 + 0.5 * generator.normal(size=50)
    top = 0.5 * bottom + 0.2 * generator.normal(size=50)
    got = ratio_interval(top, bottom)
    # Fieller 1954: the r at which the mean of top - r bottom is not significantly off 0
    grid = np.linspace(-1, 3, 4001)
    inside = [stats.ttest_1samp(top - r * bottom, 0).pvalue >= 0.05 for r in grid]
    low, high = grid[inside][[0, -1]]
    assert got.ci_low == pytest.approx(low, abs=0.1 * (high - low))
    assert got.ci_high == pytest.approx(high, abs=0.1 * (high - low))


@pytest.mark.parametrize("sign", [1, -1])
def test_ratio_is_not_measurable_where_its_bottom_may_be_zero(sign):
    noise = np.random.default_rng(11).normal(size=50)
    noise = sign * (noise - noise.mean()) / noise.std()
    top = sign * np.ones(50) + 0.1 * noise
    assert ratio_interval(top, noise + 0.2 * sign) == Estimate(pytest.approx(5.0), -np.inf, np.inf, 50)  # t = 1.4
    measurable = ratio_interval(top, noise + 0.5 * sign)  # t = 3.5
    assert 1 < measurable.ci_low < 2 < measurable.ci_high < 10
    assert mean_interval(noise + 0.2 * sign).ci_low < 0 < mean_interval(noise + 0.2 * sign).ci_high


def test_ratio_of_negative_sums_is_that_of_their_opposites():
    generator = np.random.default_rng(12)
    top, bottom = generator.normal(1, 1, size=30), generator.normal(2, 1, size=30)
    want = ratio_interval(top, bottom)
    assert ratio_interval(-top, -bottom) == want
    flipped = ratio_interval(top, -bottom)
    assert (flipped.value, flipped.ci_low, flipped.ci_high) == pytest.approx((-want.value, -want.ci_high, -want.ci_low))


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
    assert SKILL.of(got).higher_is_better


def test_skill_of_the_base_itself_is_exactly_zero():
    loss = np.random.default_rng(6).uniform(0.01, 1.0, size=17).astype(np.float32)
    assert skill_interval(loss, loss) == Estimate(0.0, 0.0, 0.0, 17)


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
    assert mean_interval([1.0, 3.0], groups=["a", "a"]) == Estimate(2.0, -np.inf, np.inf, 1)
    assert skill_interval([1.0], [2.0]) == Estimate(0.5, -np.inf, np.inf, 1)
    assert ratio_interval([1.0, 3.0], [4.0, 4.0], groups=["a", "a"]) == Estimate(0.5, -np.inf, np.inf, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([]),
        lambda: mean_interval([1.0, float("nan")]),
        lambda: mean_interval([[1.0, 2.0]]),
        lambda: mean_interval([1.0, 2.0], groups=["a"]),
        lambda: mean_interval([1.0, 2.0], level=95),
        lambda: mean_interval([1.0, 2.0], resamples=0),
        lambda: ratio_interval([1.0, 2.0], [1.0]),
        lambda: ratio_interval([1.0, 2.0], [1.0, -1.0]),
        lambda: ratio_interval([1.0, 2.0], [1.0, 1.0], ["a"]),
        lambda: skill_interval([], []),
        lambda: skill_interval([1.0, 2.0], [1.0]),
        lambda: skill_interval([1.0], [0.0]),
        lambda: skill_interval([float("inf")], [1.0]),
    ],
)
def test_what_has_no_interval_is_refused(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("held", [0, 12])
def test_a_share_that_all_or_none_have_still_has_an_interval(held):
    flags = [i < held for i in range(12)]
    exact = stats.binomtest(held, 12).proportion_ci(0.95, "exact")
    found = share_interval(flags)
    assert (found.ci_low, found.ci_high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    mixed = share_interval([True, False] * 6)
    assert 0 < mixed.ci_low < 0.5 < mixed.ci_high < 1
