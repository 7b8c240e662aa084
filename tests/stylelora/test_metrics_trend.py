from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.trend import trend
from stylelora.records import InputError


def test_one_value_per_level_is_kendalls_exact_test():
    values = [0.1, 0.4, 0.3, 0.9, 0.5, 1.2, 0.8]
    got, want = trend(range(7), values), stats.kendalltau(range(7), values, method="exact")
    assert (got.tau, got.p_value) == pytest.approx((want.statistic, want.pvalue), abs=1e-12)
    falling = trend(range(7), np.negative(values))
    assert (falling.tau, falling.p_value) == pytest.approx((-got.tau, got.p_value))


def test_several_values_per_level_are_counted_over_all_permutations():
    levels, values = [4, 4, 16, 16, 64, 64], [0.2, 0.3, 0.25, 0.5, 0.45, 0.6]

    def pairs(order):  # the difference of Jonckheere's two counts, pair by pair
        drawn = list(zip(order, values, strict=True))
        return sum(np.sign(b[0] - a[0]) * np.sign(b[1] - a[1]) for i, a in enumerate(drawn) for b in drawn[i + 1 :])

    all_ = [abs(pairs(order)) for order in permutations(levels)]
    got = trend(levels, values)
    assert got.p_value == pytest.approx(np.mean(np.array(all_) >= abs(pairs(levels))), abs=1e-12)
    assert got.tau == pytest.approx(stats.kendalltau(levels, values).statistic)


def test_many_values_are_near_the_normal_approximation_and_never_sure():
    generator = np.random.default_rng(0)
    levels = np.repeat(range(6), 5)
    values = 0.12 * levels + generator.normal(size=30)
    got, want = trend(levels, values), stats.kendalltau(levels, values, method="asymptotic")
    assert got.p_value == pytest.approx(want.pvalue, abs=0.03)  # which has no correction for ties
    assert got.tau == pytest.approx(want.statistic)
    assert trend(levels, levels + 0.01 * generator.normal(size=30), resamples=500).p_value == 1 / 500
    assert trend(levels, values) == got


def test_only_the_order_of_levels_counts_and_equal_values_show_no_trend():
    values = [0.1, 0.2, 0.3, 0.2, 0.5]
    assert trend([4, 8, 16, 32, 64], values) == trend(range(5), values)
    assert trend(range(5), [0.5] * 5).p_value == 1
    assert trend(range(5), [0.5] * 5).tau == 0


def test_the_least_p_value_is_that_of_a_perfect_trend():
    for levels in ([0, 1, 2], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2]):
        got = trend(levels, range(len(levels)))
        assert got.tau > 0.8
        assert got.p_value == pytest.approx(got.least)
        assert trend(levels, [1, 0, *range(2, len(levels))]).least == got.least


@pytest.mark.parametrize("rows", [([1, 1], [1, 2]), ([1, 2], [1]), ([1, 2], [1, np.nan]), ([], [])])
def test_what_has_no_trend_is_refused(rows):
    with pytest.raises(InputError):
        trend(*rows)
