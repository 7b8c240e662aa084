import numpy as np
import pytest
from scipy import stats

from stylelora.metrics.comparison import equivalence, paired_difference
from stylelora.metrics.contrast import compared, contrast, equal_within
from stylelora.metrics.nested import Crossed
from stylelora.records import InputError


def arms(*seeds, prompts=12, spread=0.3, key=0):
    """Tables of training seeds x prompts; the prompts have the same effects on all."""
    generator = np.random.default_rng(key)
    effects = generator.normal(size=prompts)
    return [
        Crossed(spread * generator.normal(size=(n, 1)) + effects + 0.2 * generator.normal(size=(n, prompts)))
        for n in seeds
    ]


def flat(per_seed, prompts=6):
    """An arm whose prompts do not differ."""
    return Crossed(np.repeat(np.asarray(per_seed, dtype=float)[:, None], prompts, axis=1))


def test_seeds_alone_give_the_error_of_two_independent_samples():
    one, other = [0.3, 0.5, 0.4], [0.1, 0.2, 0.0, 0.15, 0.05]
    found = contrast([flat(one), flat(other)], (1, -1), paired=False)
    assert found.value == pytest.approx(np.mean(one) - np.mean(other))
    half = np.hypot(*(stats.t(len(x) - 1).ppf(0.975) * stats.sem(x) for x in (one, other)))
    got = compared(found, 3)
    assert (got.difference.ci_low, got.difference.ci_high) == pytest.approx((found.value - half, found.value + half))
    assert got.difference.n == 3


def test_a_single_seed_is_taken_to_vary_as_the_others_do():
    """Then this is the t test of two samples with a common variance, of which one has a single value."""
    found = contrast([flat([0.7]), flat([0.3, 0.5, 0.4])], (1, -1), paired=False)
    want = stats.ttest_ind([0.7], [0.3, 0.5, 0.4])
    assert compared(found, 1).p_value == pytest.approx(want.pvalue, rel=1e-6)
    low, high = want.confidence_interval(0.95)
    assert (compared(found, 1).difference.ci_low, compared(found, 1).difference.ci_high) == pytest.approx((low, high))


def test_prompts_are_paired_whatever_the_seeds():
    one, other = arms(1, 1)
    want = stats.ttest_rel(one.table[0], other.table[0])
    got = compared(contrast([one, other], (1, -1), paired=False), 1)
    assert got.p_value == pytest.approx(want.pvalue, rel=1e-6)
    low, high = want.confidence_interval(0.95)
    assert (got.difference.ci_low, got.difference.ci_high) == pytest.approx((low, high))
    inside = stats.ttest_rel(one.table[0], other.table[0] + 0.5, alternative="less").pvalue
    outside = stats.ttest_rel(one.table[0], other.table[0] - 0.5, alternative="greater").pvalue
    assert equal_within(contrast([one, other], (1, -1), paired=False), 0.5) == pytest.approx(max(inside, outside))


def test_paired_seeds_are_those_of_compare():
    one, other = arms(3, 3)
    found = contrast([one, other], (1, -1), paired=True)
    seeds, prompts = np.repeat(range(3), 12), np.tile(range(12), 3)
    want = paired_difference(one.table.ravel(), other.table.ravel(), prompts, train_seeds=seeds)
    assert compared(found, 3) == want
    assert equal_within(found, 0.4) == equivalence(one.table.ravel(), other.table.ravel(), prompts, 0.4, seeds)


def test_a_slope_is_the_least_squares_line_through_the_means():
    found = contrast(arms(2, 3, 4), (-0.5, 0, 0.5), paired=False)
    means = [arm.value for arm in arms(2, 3, 4)]
    assert found.value == pytest.approx(np.polyfit(range(3), means, 1)[0])


@pytest.mark.parametrize(("seeds", "least"), [((3, 3), 0.94), ((2, 5), 0.94), ((1, 4), 0.93)])
def test_intervals_cover_new_seeds_and_prompts(seeds, least):
    """With the true difference 0; effects of prompts differ between arms, as much as seeds do."""
    generator, hits = np.random.default_rng(3), 0
    for _ in range(400):
        prompts = generator.normal(size=(len(seeds), 20))
        tables = [
            Crossed(0.3 * generator.normal(size=(n, 1)) + own + 0.2 * generator.normal(size=(n, 20)))
            for n, own in zip(seeds, prompts, strict=True)
        ]
        got = compared(contrast(tables, (1, -1), paired=False), 1).difference
        hits += got.ci_low <= 0 <= got.ci_high
    assert hits / 400 >= least


def test_arms_of_other_prompts_or_seeds_are_not_paired():
    with pytest.raises(InputError, match="same prompts"):
        contrast([*arms(2), *arms(2, prompts=5)], (1, -1), paired=False)
    with pytest.raises(InputError, match="paired by training seed only"):
        contrast(arms(2, 3), (1, -1), paired=True)
