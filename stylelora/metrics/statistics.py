"""Bootstrap intervals (Efron 1979) for means, ratios and skill, resampling the independent units."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stylelora.records import Estimate, InputError

CHUNK = 1_000_000  # numbers drawn at once, to bound memory


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Return the mean with its bootstrap interval, resampling whole groups.

    Pictures of one prompt resemble one another. Treating them as independent would make the interval too narrow, so the
    unit is the prompt. The estimate is the plain mean of all values; a group counts by its size.

    Args:
        values: finite numbers (N,).
        groups: to which unit each value belongs (N,), such as its prompt; by default each is its own.
        level: coverage of the interval, in (0, 1). With fewer than about 10 units, the true coverage is lower.
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the global generators are not used.

    Returns:
        `n` is the number of units. One unit says nothing about how units vary: its interval is (-inf, inf).

    Raises:
        InputError: no values, values that are not finite, or not as many groups as values.
    """
    values = finite(values, "values")
    ones = np.ones(len(values))
    return ratio_interval(values, ones, groups, level, resamples, seed)


def ratio_interval(
    top: ArrayLike,
    bottom: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Return a ratio of sums, sum(top) / sum(bottom), with its bootstrap interval, resampling both in whole groups.

    Example: a blend's attainment of a style, sum(blend - base) / sum(single - base) over the same prompts and seeds.

    The interval uses quantiles of the resampled ratios that lie further out than those of the plain percentile
    interval, as a t interval is wider than a normal one (expanded percentile, Hesterberg 2015). In simulations at 95 %,
    with 40 prompts x 4 seeds, normal or skewed, it covers 93.2-94.7 % and the plain one 92.4-93.7 %; with 10 prompts,
    92.6-94.7 % and 88.0-91.0 %.

    A resample in which the sum of the bottom is 0 or has a different sign than in the data says nothing about the
    ratio: it counts as -inf for the lower end and as inf for the upper. So if the bottom's own interval touches 0, the
    ratio's is (-inf, inf), as in Fieller (1954): not measurable.

    Args:
        top: finite numbers (N,).
        bottom: finite numbers (N,), paired with the top's; their sum is not 0.
        groups: to which unit each pair belongs (N,), such as its prompt; by default each is its own.
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the global generators are not used.

    Returns:
        `n` is the number of units. With one unit the interval is (-inf, inf).

    Raises:
        InputError: no numbers, numbers that are not finite, rows of different lengths, or a bottom that sums to 0.
    """
    top, bottom = finite(top, "numerators"), finite(bottom, "denominators")
    if len(top) != len(bottom) or bottom.sum() == 0:
        raise InputError(
            "A ratio needs one numerator and one denominator each time, and denominators not summing to 0."
        )
    value, unit = float(top.sum() / bottom.sum()), unit_of(groups, len(top))
    top, bottom = np.bincount(unit, top), np.bincount(unit, bottom)
    n, tail = len(top), tail_of(level, len(top))
    if resamples < 1:
        raise InputError(f"An interval needs at least 1 resample, not {resamples}.")
    if n == 1:
        return Estimate(value, -np.inf, np.inf, n)
    generator = np.random.default_rng(seed)
    tops, bottoms = [], []
    rows = max(1, CHUNK // n)
    for start in range(0, resamples, rows):
        picks = generator.integers(n, size=(min(rows, resamples - start), n))
        tops.append(top[picks].sum(1))
        bottoms.append(bottom[picks].sum(1))
    below = np.concatenate(bottoms)
    lost = below * np.sign(bottom.sum()) <= 0
    ratios = np.concatenate(tops) / np.where(lost, 1, below)
    low = np.quantile(np.where(lost, -np.inf, ratios), tail, method="lower")  # interpolating towards infinity gives NaN
    high = np.quantile(np.where(lost, np.inf, ratios), 1 - tail, method="higher")
    return Estimate(value, float(low), float(high), n)


def share_interval(flags: ArrayLike, groups: Sequence[Hashable] | None = None) -> Estimate:
    """Return the share of true flags, with the 95 % interval of `mean_interval`.

    If all are true, or none, resampling shows no spread; the other end is then that of Clopper and Pearson (1934) for
    the same number of units: 1 - 0.025^(1/n) for none.

    Args:
        flags: bool (N,).
        groups: see `mean_interval`.
    """
    metric = mean_interval(np.asarray(flags, dtype=np.float64), groups)
    beyond = 1 - 0.025 ** (1 / metric.n)
    ends = {0.0: (0.0, beyond), 1.0: (1 - beyond, 1.0)}.get(metric.value, (metric.ci_low, metric.ci_high))
    return Estimate(metric.value, *ends, metric.n)


def unit_of(groups: Sequence[Hashable] | None, count: int) -> np.ndarray:
    """Return the index of the unit of each of `count` values, in order of appearance, int (count,).

    Raises:
        InputError: not as many groups as values.
    """
    keys = range(count) if groups is None else groups
    if len(keys) != count:
        raise InputError(f"Each value needs one group, but there are {count} values and {len(keys)} groups.")
    keys = keys.tolist() if hasattr(keys, "tolist") else keys  # tensors of one element hash by identity
    order = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys])


def finite(values: ArrayLike, what: str) -> np.ndarray:
    """Return numbers as float64 (N,).

    Raises:
        InputError: none, or some that are not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise InputError(f"An interval needs at least one of {what} in one row, all finite; got shape {array.shape}.")
    return array


def tail_of(level: float, n: int = 0) -> float:
    """Return the share beyond either end of an interval; with n units, that of the expanded percentile interval."""
    from scipy.special import ndtr, stdtrit

    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, not {level}.")
    tail = (1 - level) / 2
    return float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail))) if n > 1 else tail
