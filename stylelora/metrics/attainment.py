"""How much of each style do pictures show, on a scale from the base (0) to the single adapter (1)?

Similarities (`style_similarity`) of different styles and encoders cannot be compared; attainments can. All arms share
prompts and seeds. What is returned for each picture goes through `mean_interval` with prompts as groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.statistics import mean_interval, share_interval, tail_of, unit_of
from stylelora.records import InputError, Metric

FEWEST = 6  # prompts; of fewer, an interval lies above 0 by chance more often than it says


@dataclass(frozen=True)
class Calibration:
    """The two ends of a style's scale.

    Attributes:
        base: mean similarity of the base's pictures to the style.
        span: what the single adapter adds to it, with its interval over prompts.
    """

    base: float
    span: Metric

    @property
    def single(self) -> float:
        """Return the mean similarity of the single adapter's pictures."""
        return self.base + self.span.value

    @property
    def measurable(self) -> bool:
        """Tell whether the adapter surely raises the similarity; if not, the scale has no length to divide by."""
        return self.span.n >= FEWEST and self.span.ci_low > 0


def calibrate(base: ArrayLike, single: ArrayLike, prompts: Sequence[Hashable]) -> Calibration:
    """Make the scale of one style.

    Args:
        base: similarity of each of the base's pictures to the style (N,).
        single: the same of the pictures made with this style's adapter alone, same prompts and seeds, (N,).
        prompts: of each pair (N,). With one prompt no style is measurable.

    Raises:
        InputError: no similarities, some that are not finite, or rows of different lengths.
    """
    base, single = _rows(base, single)
    return Calibration(float(base.mean()), mean_interval(single - base, prompts))


def attainment(similarities: ArrayLike, calibration: Calibration) -> np.ndarray:
    """Place each picture on the scale of a style: a_k(x) = (<e(x), mu_k> - b_k) / (u_k - b_k).

    0 is the base's mean, 1 the single adapter's; a picture may lie beyond either. For pictures that the adapter makes
    without its trigger word, this is the leak: how much of the style shows unasked.

    The scale is taken as given. `ratio_interval(similarities - base, single - base, prompts)` is the mean attainment
    with an interval that allows for the scale's own error.

    Args:
        similarities: of each picture to the style (N,).
        calibration: of the same style, by the same encoder.

    Returns:
        float64 (N,).

    Raises:
        InputError: the style is not measurable, or similarities as for `calibrate`.
    """
    if not calibration.measurable:
        span = calibration.span
        raise InputError(
            f"The single adapter changes the similarity by {span.value:.3g} [{span.ci_low:.3g}, {span.ci_high:.3g}], "
            "which is not surely above 0, so nothing can be measured in its units: give more prompts or another style."
        )
    (similarities,) = _rows(similarities)
    return (similarities - calibration.base) / calibration.span.value


def cross_talk(on_other: ArrayLike, prompts: Sequence[Hashable]) -> Metric:
    """Mean attainment of a style on pictures of the OTHER style's adapter alone. Two related styles have much of it.

    Args:
        on_other: attainment of each of these pictures (N,).
        prompts: of each (N,).
    """
    return mean_interval(on_other, prompts, higher_is_better=False)


def both_scores(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """How much a picture shows of both styles: min(a_A, a_B), for each picture.

    The mean is taken after the minimum: tossing a coin between styles has good mean attainments, and no picture with
    both. Compare with `coin_flip`.

    Args:
        first: attainment of style A by each picture (N,).
        second: attainment of style B by the same pictures (N,).

    Returns:
        float64 (N,).

    Raises:
        InputError: no attainments, some that are not finite, or rows of different lengths.
    """
    return np.minimum(*_rows(first, second))


def coin_flip(on_first: ArrayLike, on_second: ArrayLike, share: float = 0.5) -> np.ndarray:
    """Both-score to expect of a coin that gives either single adapter's picture: what any blend has to beat.

    Exact, with no coin thrown: pi_A min(a_A, a_B)(x_A) + pi_B min(a_A, a_B)(x_B) for each prompt and seed.

    Args:
        on_first: `both_scores` of the pictures of style A's adapter alone (N,).
        on_second: `both_scores` of style B's, same prompts and seeds, (N,).
        share: pi_A, in [0, 1]; pi_B is the rest.

    Returns:
        float64 (N,).

    Raises:
        InputError: a share beyond its range, or rows as for `both_scores`.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must lie between 0 and 1, not {share}.")
    on_first, on_second = _rows(on_first, on_second)
    return share * on_first + (1 - share) * on_second


def both_intervals(
    blend: np.ndarray,
    alone: tuple[np.ndarray, np.ndarray],
    base: np.ndarray,
    prompts: Sequence[Hashable],
    share: float,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Mean both-scores of a blend, the coin, either adapter alone and the base, and the blend's above the coin's.

    Each resample of prompts makes both scales anew, so that the intervals allow for their error. A resample in which an
    adapter alone is not nearer to its style than the base counts as -inf below and inf above.

    Args:
        blend: similarities of its pictures to style A and to B, (N, 2).
        alone: the same of A's adapter alone, and of B's.
        base: the same of the base.
        prompts: of each picture (N,).
        share: pi_A, of the coin.
        level: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        `blend`, `coin_flip`, `first`, `second`, `base`, `above_coin_flip`.
    """
    unit = unit_of(prompts, len(blend))
    units = int(unit.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(units, [1 / units] * units, resamples)
    weights = np.vstack([np.ones(units, int), drawn])[:, unit].astype(float)  # the data themselves first
    weights /= weights.sum(1, keepdims=True)
    low = weights @ base
    span = np.stack([weights @ alone[0][:, 0], weights @ alone[1][:, 1]], 1) - low
    lost = (span <= 0).any(1)
    span[lost] = 1
    rows = {"blend": blend, "first": alone[0], "second": alone[1], "base": base}
    scores = {name: (weights * ((row - low[:, None]) / span[:, None]).min(2)).sum(1) for name, row in rows.items()}
    scores["coin_flip"] = share * scores["first"] + (1 - share) * scores["second"]
    scores["above_coin_flip"] = scores["blend"] - scores["coin_flip"]
    tail = tail_of(level, units)
    found = {}
    for name, values in scores.items():
        below = np.quantile(np.where(lost, -np.inf, values)[1:], tail, method="lower")
        above = np.quantile(np.where(lost, np.inf, values)[1:], 1 - tail, method="higher")
        found[name] = Metric(float(values[0]), float(below), float(above), units, True)
    return found


def both_rate(
    first: ArrayLike,
    second: ArrayLike,
    first_on_other: ArrayLike,
    second_on_other: ArrayLike,
    prompts: Sequence[Hashable],
    quantile: float = 0.95,
) -> Metric:
    """Share of pictures that show both styles: P(a_A > q_A and a_B > q_B).

    q_A is the 95th percentile of a_A on pictures of B's adapter alone: 5 % of pictures with no A in them pass it.

    Args:
        first: attainment of style A by each picture (N,).
        second: attainment of style B by the same pictures (N,).
        first_on_other: attainment of A by pictures of B's adapter alone (M,).
        second_on_other: attainment of B by pictures of A's adapter alone (L,).
        prompts: of each picture (N,).
        quantile: of these that a picture must exceed, in [0, 1].

    Raises:
        InputError: a quantile beyond its range, or rows as for `both_scores`.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile must lie between 0 and 1, not {quantile}.")
    first, second = _rows(first, second)
    (first_on_other,), (second_on_other,) = _rows(first_on_other), _rows(second_on_other)
    both = (first > np.quantile(first_on_other, quantile)) & (second > np.quantile(second_on_other, quantile))
    return share_interval(both, prompts)


def _rows(*rows: ArrayLike) -> list[np.ndarray]:
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    if any(row.ndim != 1 or not len(row) or row.shape != arrays[0].shape for row in arrays):
        shapes = " and ".join(str(row.shape) for row in arrays)
        raise InputError(f"Pictures need one number each, in rows of one length, but got shapes {shapes}.")
    if not all(np.isfinite(row).all() for row in arrays):
        raise InputError("Some pictures' numbers are not finite; look at what made them.")
    return arrays
