import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.comparison import equivalence, paired_difference
from stylelora.metrics.nested import crossed, nested_interval
from stylelora.metrics.statistics import mean_interval
from stylelora.records import Estimate, InputError


def trained(seeds, prompts, pictures, seed_sd, generator):
    """Scores of every training seed on the same prompts: values, training seeds, prompts, each (N,)."""
    row, column = np.divmod(np.repeat(np.arange(seeds * prompts), pictures), prompts)
    values = seed_sd * generator.normal(size=seeds)[row] + generator.normal(size=prompts)[column]
    return values + 0.5 * generator.normal(size=len(row)), row, column


def test_nested_error_is_that_of_the_pigeonhole_bootstrap():
    generator = np.random.default_rng(13)
    values, row, column = trained(6, 40, 2, 0.5, generator)
    got = nested_interval(values, row, column)
    assert got.value == pytest.approx(values.mean(), abs=1e-12)
    assert got.n == 6
    table = values.reshape(6, 40, 2).mean(2)
    # draw both factors whole, with the n / (n - 1) that the bootstrap of each lacks (Owen 2007)
    rows = [table[generator.integers(6, size=6)].mean() for _ in range(4000)]
    columns = [table[:, generator.integers(40, size=40)].mean() for _ in range(4000)]
    v = np.var(rows) * 6 / 5, np.var(columns) * 40 / 39
    half = np.sqrt(stats.t(5).ppf(0.975) ** 2 * v[0] + stats.t(39).ppf(0.975) ** 2 * v[1])
    assert got.ci_high - got.value == pytest.approx(half, rel=0.05)
    assert got.value - got.ci_low == pytest.approx(half, rel=0.05)
    both = [table[generator.integers(6, size=6)][:, generator.integers(40, size=40)].mean() for _ in range(4000)]
    error = np.hypot(*(table.mean(axis).std(ddof=1) / np.sqrt(table.shape[1 - axis]) for axis in (0, 1)))
    assert error == pytest.approx(np.std(both), rel=0.15)
    assert got.ci_high - got.value > 1.96 * np.std(both)  # t, and the pigeonhole's own error is a little too large


def test_nested_with_equal_prompts_is_the_t_interval_of_training_seeds():
    per_seed = np.array([0.3, 0.5, 0.4])
    got = nested_interval(np.repeat(per_seed, 10), np.repeat([7, 8, 9], 10), list(range(10)) * 3)
    want = stats.ttest_1samp(per_seed, 0).confidence_interval(0.95)
    assert (got.ci_low, got.ci_high) == pytest.approx((want.low, want.high))
    assert nested_interval([0.5] * 4, [0, 0, 1, 1], [0, 1, 0, 1]) == Estimate(0.5, 0.5, 0.5, 2)


def test_nested_does_not_depend_on_the_order_of_pictures():
    generator = np.random.default_rng(14)
    values, row, column = trained(3, 8, 2, 1.0, generator)
    want = nested_interval(values, row, column)
    mixed = generator.permutation(len(values))
    got = nested_interval(values[mixed], row[mixed], [f"prompt {k}" for k in column[mixed]])
    assert (got.value, got.ci_low, got.ci_high) == pytest.approx((want.value, want.ci_low, want.ci_high))
    assert got.n == 3


def test_one_training_seed_speaks_for_its_prompts_only():
    generator = np.random.default_rng(15)
    values, row, column = trained(1, 20, 4, 5.0, generator)
    got, over_prompts = nested_interval(values, row, column), mean_interval(values, column)
    assert got.n == 1
    assert (got.value, got.ci_low, got.ci_high) == pytest.approx(
        (over_prompts.value, over_prompts.ci_low, over_prompts.ci_high)
    )
    assert nested_interval([1.0, 3.0], [0, 1], ["a", "a"]) == Estimate(2.0, -np.inf, np.inf, 2)


def test_p_value_is_the_level_at_which_the_interval_reaches_zero():
    values, row, column = trained(3, 20, 2, 0.3, np.random.default_rng(16))
    values += 1.0
    got = paired_difference(values, 0 * values, column, train_seeds=row)
    assert 1e-4 < got.p_value < 0.5
    assert got.difference == nested_interval(values, row, column)
    at = nested_interval(values, row, column, level=1 - got.p_value)
    assert at.ci_low == pytest.approx(0, abs=1e-9)
    assert paired_difference(0 * values, values, column, train_seeds=row).p_value == pytest.approx(got.p_value)


def test_p_value_and_equivalence_of_one_factor_are_those_of_the_t_test():
    per_seed = np.array([0.3, 0.5, 0.4])
    values, row, column = np.repeat(per_seed, 10), np.repeat([7, 8, 9], 10), list(range(10)) * 3
    zero = 0 * values
    want = stats.ttest_1samp(per_seed, 0).pvalue
    assert paired_difference(values, zero, column, train_seeds=row).p_value == pytest.approx(want, rel=1e-6)
    inside = stats.ttest_1samp(per_seed, 0.6, alternative="less").pvalue
    assert equivalence(values, zero, column, 0.6, row) == pytest.approx(inside, rel=1e-6)
    outside = stats.ttest_1samp(per_seed, 0.35, alternative="less").pvalue
    assert outside > 0.5
    assert equivalence(values, zero, column, 0.35, row) == pytest.approx(outside, rel=1e-6)


def test_equivalence_holds_where_the_90_percent_interval_of_training_seeds_lies_within_the_margin():
    values, row, column = trained(4, 15, 2, 0.3, np.random.default_rng(17))
    got = nested_interval(values, row, column, level=0.9)
    margin = max(abs(got.ci_low), abs(got.ci_high))
    assert equivalence(values, 0 * values, column, margin * 1.001, row) < 0.05
    assert equivalence(values, 0 * values, column, margin * 0.999, row) > 0.05


def test_training_seeds_that_disagree_are_not_overruled_by_many_prompts():
    """Pooling all pictures would be sure of a difference that one of three adapters does not have."""
    row, column = np.divmod(np.arange(3 * 50), 50)
    values = np.array([0.3, 0.0, 0.1])[row] + 0.1 * np.random.default_rng(18).normal(size=50)[column]
    assert paired_difference(values, 0 * values, column).p_value < 0.001
    assert paired_difference(values, 0 * values, column, train_seeds=row).p_value > 0.1


def test_nothing_that_varies_and_one_prompt():
    row, column = [0, 0, 1, 1], [0, 1, 0, 1]
    assert paired_difference([0.5] * 4, [0.5] * 4, column, train_seeds=row).p_value == 1
    assert paired_difference([0.5] * 4, [0.0] * 4, column, train_seeds=row).p_value == 0
    assert equivalence([0.5] * 4, [0.0] * 4, column, 0.4, row) == 1
    assert equivalence([0.5] * 4, [0.0] * 4, column, 0.6, row) == 0
    assert paired_difference([0.5, 0.7], [0.0, 0.0], [0, 0], train_seeds=[0, 1]).p_value == 1
    assert equivalence([0.5, 0.7], [0.5, 0.7], [0, 0], 0.1, [0, 1]) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: nested_interval([], [], []),
        lambda: nested_interval([1.0, 2.0], [0], [0, 1]),
        lambda: nested_interval([1.0, 2.0], [0, 1], [0, 1]),
        lambda: nested_interval([1.0, 2.0], [0, 0], [0, 1], level=95),
        lambda: crossed([1.0, np.nan], None, [0, 1]),
        lambda: paired_difference([1.0, 2.0], [0.0, 0.0], [0, 1], train_seeds=[0, 1]),
    ],
)
def test_what_is_not_crossed_is_refused(call):
    with pytest.raises(InputError):
        call()
