"""Two conditions compared on the same prompts and seeds: the difference, its p-value, and equivalence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.nested import crossed, nested_interval
from stylelora.metrics.statistics import mean_interval
from stylelora.records import Estimate, InputError


@dataclass(frozen=True)
class Comparison:
    """Difference of two conditions, with its p-value.

    Attributes:
        difference: first minus second, with its interval; `n` counts prompts, or training seeds if several.
        p_value: two-sided: probability of a difference at least as far from 0 if the conditions were the same.
    """

    difference: Estimate
    p_value: float


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    prompts: Sequence[Hashable],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    *,
    train_seeds: Sequence[Hashable] | None = None,
) -> Comparison:
    """Return the mean difference of two conditions over prompts, with its interval and sign-flip p-value.

    The unit is the prompt, by the mean of its differences; all prompts count the same. If the conditions are the same,
    a prompt's mean difference is equally likely to have either sign (Fisher 1935). The test compares the distance of
    the mean from 0 with those under flipped signs: all 2^n of them if `resamples` allows, or else that many random
    ones, with the data's own counted among them (Phipson and Smyth 2010). For several conditions or metrics, use `holm`
    for planned tests and `scipy.stats.false_discovery_control` for exploratory ones.

    With several training seeds, interval and p-value are those of `nested_interval`: p is the level at which the
    interval just reaches 0, because sign flips of three seeds cannot give a small p.

    Args:
        first: the score of each picture (N,).
        second: the other condition's scores of the same prompts and seeds, in the same order (N,).
        prompts: the prompt of each pair (N,).
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap samples, and at most of sign flips. With n prompts no p-value is below 2^(1 - n).
        seed: seed of both; the global generators are not used.
        train_seeds: training seed of the adapters behind each pair (N,); None: one adapter each.

    Raises:
        InputError: no scores, scores that are not finite, or rows of different lengths.
    """
    from scipy.stats import permutation_test

    differences = _differences(first, second)
    found = crossed(differences, train_seeds, prompts)
    if len(found.table) > 1:
        difference = nested_interval(differences, train_seeds, prompts, level)
        return Comparison(difference, 2 * found.tail(abs(found.value)))
    means = found.table[0]
    difference = mean_interval(means, None, level, resamples, seed)
    if len(means) == 1:  # both flips are equally far from 0
        return Comparison(difference, 1.0)
    test = permutation_test(
        (means,),
        lambda flipped, axis: np.abs(flipped.mean(axis)),
        permutation_type="samples",  # with one sample, this flips signs
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return Comparison(difference, float(test.pvalue))


def equivalence(
    first: ArrayLike,
    second: ArrayLike,
    prompts: Sequence[Hashable],
    margin: float,
    train_seeds: Sequence[Hashable] | None = None,
) -> float:
    """Test equivalence within a margin by two one-sided tests (TOST; Schuirmann 1987) and return the p-value.

    A difference that is not significant does not show that conditions are equal. Here the null hypothesis is that they
    differ by the margin or more, in either direction. The tests are paired t tests on the prompts' mean differences;
    the larger p-value counts. It is below 0.05 exactly if the 90 % t interval lies within the margin; with several
    training seeds, the interval is that of `nested_interval`.

    Args:
        first: the score of each picture (N,).
        second: the other condition's scores of the same prompts and seeds, in the same order (N,).
        prompts: the prompt of each pair (N,). One prompt alone never shows equivalence: p = 1.
        margin: largest difference that does not matter, > 0; choose it before looking at the data.
        train_seeds: as for `paired_difference`.

    Raises:
        InputError: no scores, scores that are not finite, rows of different lengths, or a margin that is not positive.
    """
    if not margin > 0:
        raise InputError(f"margin must be the largest difference that does not matter, above 0, not {margin}.")
    found = crossed(_differences(first, second), train_seeds, prompts)
    if found.table.shape[1] == 1:
        return 1.0
    return found.tail(margin - abs(found.value))  # from the nearer bound, which has the larger p-value


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for multiple testing by Holm (1979), which allows any dependence between the tests.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none becomes smaller than one before it, nor
    larger than 1. Rejecting at <= 0.05 has at most a 5 % chance of any false rejection.

    Args:
        p_values: by name, such as the condition's, each in [0, 1]; all planned tests, not only those that look good.

    Raises:
        InputError: a number that is no p-value.
    """
    if not all(0 <= p <= 1 for p in p_values.values()):
        raise InputError("Each p-value must lie between 0 and 1.")
    adjusted, least = dict(p_values), 0.0  # keeps the order of the names
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = least
    return adjusted


def _differences(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return first minus second, float64 (N,)."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first) or not np.isfinite(first - second).all():
        raise InputError("A comparison needs finite scores of both conditions for the same pictures, in one row each.")
    return first - second
