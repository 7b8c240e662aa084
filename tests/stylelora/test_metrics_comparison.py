from itertools import product

import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.comparison import Comparison, equivalence, holm, paired_difference
from stylelora.metrics.statistics import mean_interval
from stylelora.records import InputError


def conditions(prompts, seeds, generator, effect=0.0, interaction=0.0):
    """Scores of two conditions on the same prompts and seeds, and the prompts, each (prompts * seeds,)."""
    ids = np.repeat(np.arange(prompts), seeds)
    shared = 3 * generator.normal(size=prompts)[ids] + generator.normal(size=len(ids))
    first = shared + effect + interaction * generator.normal(size=prompts)[ids] + 0.5 * generator.normal(size=len(ids))
    return first, shared + 0.5 * generator.normal(size=len(ids)), ids


def prompt_means(first, second, ids):
    return np.array([(first - second)[ids == key].mean() for key in np.unique(ids)])


@pytest.mark.parametrize("effect", [0.0, 0.3, 2.0])
def test_p_value_is_the_share_of_all_sign_flips(effect):
    first, second, ids = conditions(9, 3, np.random.default_rng(0), effect, 0.5)
    means = prompt_means(first, second, ids)
    flipped = [abs(np.dot(signs, means)) for signs in product([-1, 1], repeat=9)]
    want = np.mean(np.array(flipped) >= abs(means.sum()) - 1e-12)
    got = paired_difference(first, second, ids)
    assert isinstance(got, Comparison)
    assert got.p_value == pytest.approx(want, abs=1e-12)
    assert paired_difference(second, first, ids).p_value == got.p_value
    pairs = [[means, np.zeros(9)], lambda a, b, axis: (a - b).mean(axis)]
    reference = stats.permutation_test(*pairs, permutation_type="samples", vectorized=True)
    assert got.p_value == pytest.approx(reference.pvalue, abs=1e-12)


def test_p_value_of_many_prompts_is_near_that_of_the_t_test_and_never_zero():
    first, second, ids = conditions(40, 4, np.random.default_rng(1), interaction=0.5)
    means = prompt_means(first, second, ids)
    first = first - means.mean() + 1.5 * stats.sem(means)  # so that t is 1.5
    got = paired_difference(first, second, ids)
    want = stats.ttest_1samp(prompt_means(first, second, ids), 0)
    assert want.statistic == pytest.approx(1.5)
    assert got.p_value == pytest.approx(want.pvalue, abs=0.02)
    assert paired_difference(first + 10, second, ids, resamples=999).p_value == 1 / 1000  # the data's own flips count


def test_difference_is_that_of_the_prompt_means():
    first, second, ids = conditions(12, 4, np.random.default_rng(2), 0.4)
    got = paired_difference(first, second, ids).difference
    want = mean_interval(first - second, ids)
    assert (got.value, got.ci_low, got.ci_high) == pytest.approx((want.value, want.ci_low, want.ci_high))
    assert got.n == 12
    uneven = paired_difference([4.0, 4.0, 4.0, 0.0], [0.0] * 4, ["a", "a", "a", "b"]).difference
    assert uneven.value == 2.0  # prompts count the same, however many pictures each has


def test_pairing_finds_what_unpaired_conditions_hide():
    first, second, ids = conditions(30, 4, np.random.default_rng(3), 0.3)
    got = paired_difference(first, second, ids)
    assert got.p_value < 0.01
    assert got.difference.ci_low > 0
    assert stats.ttest_ind(first, second).pvalue > 0.3


def test_pictures_taken_for_independent_find_differences_that_are_not_there():
    generator = np.random.default_rng(4)
    prompts, seeds, interaction = 25, 8, 0.64  # in units of the noise of a difference
    ids = np.repeat(np.arange(prompts), seeds)
    naive = clustered = 0
    for dataset in range(400):
        difference = interaction * generator.normal(size=prompts)[ids] + generator.normal(size=len(ids))
        naive += stats.ttest_1samp(difference, 0).pvalue <= 0.05
        clustered += paired_difference(difference, 0 * difference, ids, resamples=400, seed=dataset).p_value <= 0.05
    # variance of the mean is 1 + (seeds - 1) rho times what independent pictures would have
    inflation = 1 + (seeds - 1) * interaction**2 / (1 + interaction**2)
    assert naive / 400 == pytest.approx(2 * stats.norm.cdf(-1.96 / np.sqrt(inflation)), abs=0.06)
    assert naive / 400 > 0.2
    assert clustered / 400 < 0.08


def test_conditions_that_are_the_same_do_not_differ():
    scores, _, ids = conditions(20, 2, np.random.default_rng(5))
    got = paired_difference(scores, scores, ids)
    assert (got.difference.value, got.difference.ci_low, got.difference.ci_high, got.p_value) == (0, 0, 0, 1)
    assert equivalence(scores, scores, ids, 0.1) == 0
    assert equivalence(scores + 0.5, scores, ids, 0.1) == pytest.approx(1)


def test_one_prompt_decides_nothing():
    got = paired_difference([5.0, 5.0], [1.0, 1.0], ["a", "a"])
    assert (got.difference.ci_low, got.difference.ci_high, got.p_value) == (-np.inf, np.inf, 1)
    assert equivalence([1.0, 1.0], [1.0, 1.0], ["a", "a"], 0.1) == 1


def test_comparison_is_a_function_of_its_arguments_alone():
    first, second, ids = conditions(30, 2, np.random.default_rng(6), 0.1, 0.3)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    got = paired_difference(first, second, ids, resamples=500)
    assert (np.random.get_state()[1] == state).all()
    assert paired_difference(first, second, ids, resamples=500) == got
    assert paired_difference(first, second, ids, resamples=500, seed=1).p_value != got.p_value


@pytest.mark.parametrize("effect", [0.0, 0.15, -0.15, 0.6])
def test_equivalence_is_two_one_sided_t_tests(effect):
    first, second, ids = conditions(25, 4, np.random.default_rng(7), effect, 0.3)
    means = prompt_means(first, second, ids)
    want = max(
        stats.ttest_1samp(means, -0.2, alternative="greater").pvalue,
        stats.ttest_1samp(means, 0.2, alternative="less").pvalue,
    )
    assert equivalence(first, second, ids, 0.2) == pytest.approx(want, abs=1e-12)
    assert equivalence(second, first, ids, 0.2) == pytest.approx(want, abs=1e-12)


def test_equivalence_holds_exactly_where_the_90_percent_interval_lies_within_the_margin():
    first, second, ids = conditions(20, 4, np.random.default_rng(8), 0.05, 0.3)
    interval = stats.ttest_1samp(prompt_means(first, second, ids), 0).confidence_interval(0.90)
    edge = max(-interval.low, interval.high)
    assert equivalence(first, second, ids, edge * 1.001) < 0.05 < equivalence(first, second, ids, edge * 0.999)
    bootstrap = paired_difference(first, second, ids, level=0.90).difference
    assert max(-bootstrap.ci_low, bootstrap.ci_high) == pytest.approx(edge, rel=0.1)


def test_no_significant_difference_is_not_equivalence():
    first, second, ids = conditions(8, 2, np.random.default_rng(9), 0.0, 1.0)
    assert paired_difference(first, second, ids).p_value > 0.05
    assert equivalence(first, second, ids, 0.1) > 0.05


def test_holm_by_hand():
    got = holm({"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.005})
    assert got == pytest.approx({"c": 0.06, "a": 0.03, "d": 0.06, "b": 0.02})
    assert list(got) == ["c", "a", "d", "b"]
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_rejects_what_its_steps_reject_and_controls_false_rejections():
    generator = np.random.default_rng(10)
    families = 0
    for _ in range(2000):
        p_values = generator.uniform(size=6).round(2 if generator.uniform() < 0.5 else 9)  # some of them tie
        got = holm({str(key): p for key, p in enumerate(p_values)})
        rejected, step = set(), 0
        for key in np.argsort(p_values, kind="stable"):  # down from the smallest until one holds
            if p_values[key] > 0.05 / (6 - step):
                break
            rejected.add(str(key))
            step += 1
        assert {key for key, p in got.items() if p <= 0.05} == rejected
        families += bool(rejected)
    assert families / 2000 == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_difference([], [], []),
        lambda: paired_difference([1.0, 2.0], [1.0], ["a", "b"]),
        lambda: paired_difference([1.0, float("nan")], [1.0, 2.0], ["a", "b"]),
        lambda: paired_difference([1.0, 2.0], [1.0, 2.0], ["a"]),
        lambda: paired_difference([[1.0]], [[2.0]], ["a"]),
        lambda: paired_difference([1.0, 2.0], [1.0, 2.0], ["a", "b"], level=95),
        lambda: equivalence([1.0, 2.0], [1.0, 2.0], ["a", "b"], margin=0),
        lambda: equivalence([1.0, 2.0], [1.0, 2.0], ["a", "b"], margin=float("nan")),
        lambda: equivalence([1.0], [1.0, 2.0], ["a", "b"], margin=0.1),
        lambda: holm({"a": 1.5}),
        lambda: holm({"a": float("nan")}),
    ],
)
def test_what_cannot_be_compared_is_refused(call):
    with pytest.raises(InputError):
        call()
