"""Intervals for means and for skill, by the bootstrap (Efron 1979), over the units that are independent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stylelora.records import InputError, Metric

CHUNK = 1_000_000  # numbers drawn at once: bounds memory


def mean_interval(
    values: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    *,
    higher_is_better: bool = True,
) -> Metric:
    """Mean with its percentile bootstrap interval, resampling whole groups.

    Pictures of one prompt resemble one another: taking each for independent makes the interval too narrow, so the unit
    is the prompt. The estimate is the plain mean of all values; a group counts by its size.

    Args:
        values: finite numbers (N,).
        groups: to which unit each value belongs (N,), such as its prompt; by default each is its own.
        level: coverage of the interval, in (0, 1). Below about 10 units it covers less than it says.
        resamples: bootstrap samples.
        seed: seed of the resampling, which draws from no global generator.
        higher_is_better: direction, passed on to the record.

    Returns:
        `n` is the number of units. One unit says nothing about how units vary: its interval is (-inf, inf).

    Raises:
        InputError: no values, values that are not finite, or not as many groups as values.
    """
    values = _finite(values, "values")
    keys = range(len(values)) if groups is None else groups
    if len(keys) != len(values):
        raise InputError(f"Each value needs one group, but there are {len(values)} values and {len(keys)} groups.")
    keys = keys.tolist() if hasattr(keys, "tolist") else keys  # tensors of one element hash by identity
    order = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    unit = np.array([order[key] for key in keys])
    low, high = _ratio_interval(np.bincount(unit, values), np.bincount(unit), level, resamples, seed)
    return Metric(float(values.mean()), low, high, len(order), higher_is_better)


def skill_interval(
    loss: ArrayLike, base_loss: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Metric:
    """Share of the base's loss that an adapter removes, 1 - sum(loss) / sum(base_loss), with a paired interval.

    Losses of different data sets cannot be compared; their skill can, if both losses come from one fixed bank of
    pictures, noises, timesteps and captions. 0: no better than the base; 1: perfect; negative: worse. Each bootstrap
    sample takes the same pictures for both losses, so that what makes a picture hard for both cancels.

    Args:
        loss: each picture's mean loss with the adapter, >= 0, (N,).
        base_loss: the same with no adapter, > 0, (N,).
        level: coverage of the interval, in (0, 1).
        resamples: bootstrap samples.
        seed: seed of the resampling, which draws from no global generator.

    Returns:
        `n` is the number of pictures. With one picture the interval is (-inf, inf), as for `mean_interval`.

    Raises:
        InputError: no losses, losses that are not finite, of different lengths, or a base loss that is not positive.
    """
    loss, base_loss = _finite(loss, "losses"), _finite(base_loss, "base losses")
    if len(loss) != len(base_loss) or (base_loss <= 0).any():
        raise InputError("Skill needs one loss and one base loss above 0 for each picture.")
    low, high = _ratio_interval(loss, base_loss, level, resamples, seed)
    return Metric(float(1 - loss.sum() / base_loss.sum()), 1 - high, 1 - low, len(loss), True)


def _finite(values: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise InputError(f"An interval needs at least one of {what} in one row, all finite; got shape {array.shape}.")
    return array


def _ratio_interval(
    top: np.ndarray, bottom: np.ndarray, level: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of sum(top) / sum(bottom), resampling rows of both together; a mean is one such ratio."""
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level must lie between 0 and 1 and resamples be at least 1, not {level} and {resamples}.")
    n = len(top)
    if n == 1:
        return -np.inf, np.inf
    generator = np.random.default_rng(seed)
    ratios = []
    rows = max(1, CHUNK // n)
    for start in range(0, resamples, rows):
        picks = generator.integers(n, size=(min(rows, resamples - start), n))
        ratios.append(top[picks].sum(1) / bottom[picks].sum(1))
    low, high = np.quantile(np.concatenate(ratios), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
