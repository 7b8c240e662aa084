"""Weight response: does a blend show more of a style for more weight, in proportion and monotonically?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.measure import Measure
from stylelora.records import InputError

RANK_CORRELATION = Measure(
    "weight_response_rank_correlation", "rank correlation of the difference in attainments with that in weights"
)
SLOPE = Measure("weight_response_slope", "slope of the same: 1 if attainments follow the weights")
VIOLATIONS = Measure(
    "weight_response_violations", "weights at which the difference goes the wrong way", higher_is_better=False
)
SHARE_ERROR = Measure(
    "weight_response_share_error",
    "mean distance of the realised share of a style from the requested one",
    higher_is_better=False,
)


@dataclass(frozen=True)
class WeightResponse:
    """Result of a sweep of weights, with y = a_A - a_B against x = w_A - w_B.

    Attributes:
        rank_correlation: of y and x (Spearman 1904), in [-1, 1]; 0 if y is constant.
        slope: of the least-squares line of y over x; 1 if attainments equal the weights.
        violations: number of steps to the next larger x at which y falls.
        share_error: mean distance of the realised share of A from the requested one, in [0, 1].
    """

    rank_correlation: float
    slope: float
    violations: int
    share_error: float


def weight_response(first: ArrayLike, second: ArrayLike, weights: ArrayLike) -> WeightResponse:
    """Evaluate one sweep of weights, by mean attainments or by those of one prompt (for `mean_interval` over prompts).

    The requested share of A is w_A / (w_A + w_B), the realised one a_A / (a_A + a_B), with attainments below 0 counted
    as 0. If neither style shows there is no share, and the farthest from the requested one counts, so that a blend
    that destroys both does not look faithful. Settings of equal x count as one step, by the mean of their y.

    Args:
        first: attainment of style A at each setting (S,).
        second: attainment of style B (S,).
        weights: w_A and w_B of each setting, >= 0 and not both 0, (S, 2).

    Raises:
        InputError: rows of different lengths, numbers that are not finite, weights beyond their range, or none that
            differ in w_A - w_B.
    """
    from scipy.stats import spearmanr

    first, second, weights = (np.asarray(row, dtype=np.float64) for row in (first, second, weights))
    if first.ndim != 1 or first.shape != second.shape or weights.shape != (len(first), 2):
        raise InputError("A sweep needs both attainments and both weights of each setting.")
    if not all(np.isfinite(row).all() for row in (first, second, weights)):
        raise InputError("A sweep needs finite attainments and weights.")
    if (weights < 0).any() or (weights.sum(1) == 0).any():
        raise InputError("Weights of a sweep must be at least 0, and not both 0.")
    # 0.8 - 0.2 and 0.7 - 0.1 differ in their last bits
    x, y = np.round(weights[:, 0] - weights[:, 1], 9), first - second
    steps, step = np.unique(x, return_inverse=True)
    if len(steps) < 2:
        raise InputError("A sweep needs at least two settings that differ in w_A - w_B.")
    means = np.bincount(step, y) / np.bincount(step)
    return WeightResponse(
        rank_correlation=float(spearmanr(x, y).statistic) if np.ptp(y) else 0.0,
        slope=float(np.polyfit(x, y, 1)[0]),
        violations=int((np.diff(means) < 0).sum()),
        share_error=float(_share_errors(first, second, weights).mean()),
    )


def _share_errors(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    requested = weights[:, 0] / weights.sum(1)
    shown = np.maximum(first, 0), np.maximum(second, 0)
    total = shown[0] + shown[1]
    realised = shown[0] / np.where(total > 0, total, 1)
    return np.where(total > 0, np.abs(realised - requested), np.maximum(requested, 1 - requested))
