"""Attainment: how much of a style pictures show, on a scale from the base (0) to the style's adapter alone (1).

Similarities (`style_similarity`) of different styles or encoders are not comparable; attainments are. All conditions
share prompts and seeds. Pass the value of each picture to `mean_interval`, with prompts as groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.measure import Measure
from stylelora.metrics.statistics import mean_interval
from stylelora.records import Estimate, InputError

FEWEST = 6  # prompts; with fewer, an interval lies above 0 by chance more often than its level says

ATTAINMENT = Measure(
    "attainment", "how much of the style is reached: 0 is the base, 1 its adapter alone; by another's: cross-talk"
)
ATTAINMENT_WITHOUT_TRIGGER = Measure(
    "attainment_without_trigger",
    "the same of prompts without the trigger word: how much of the style appears without being asked for",
    higher_is_better=False,
)
TRIGGER_EFFECT = Measure("trigger_effect", "attainment with the trigger word minus without it")


@dataclass(frozen=True)
class Calibration:
    """The two ends of a style's scale.

    Attributes:
        base: mean similarity of the base's pictures to the style.
        span: increase of that mean with the single adapter, with its interval over prompts.
    """

    base: float
    span: Estimate

    @property
    def single(self) -> float:
        """Return the mean similarity of the single adapter's pictures."""
        return self.base + self.span.value

    @property
    def measurable(self) -> bool:
        """Return whether the adapter clearly raises the similarity; if not, attainment would divide by about 0."""
        return self.span.n >= FEWEST and self.span.ci_low > 0


def calibrate(base: ArrayLike, single: ArrayLike, prompts: Sequence[Hashable]) -> Calibration:
    """Compute the scale of one style from the base's and its adapter's similarities.

    Args:
        base: similarity of each of the base's pictures to the style (N,).
        single: the same for the pictures made with this style's adapter alone, same prompts and seeds, (N,).
        prompts: of each pair (N,). With one prompt no style is measurable.

    Raises:
        InputError: no similarities, some that are not finite, or rows of different lengths.
    """
    base, single = as_rows(base, single)
    return Calibration(float(base.mean()), mean_interval(single - base, prompts))


def attainment(similarities: ArrayLike, calibration: Calibration) -> np.ndarray:
    """Return each picture's attainment of a style: a_k(x) = (<e(x), mu_k> - b_k) / (u_k - b_k).

    0 is the base's mean, 1 the single adapter's; single pictures can lie below 0 or above 1. For pictures made with the
    adapter but without its trigger word, it measures leakage: how much of the style appears without the trigger.

    The scale is treated as exact. `ratio_interval(similarities - base, single - base, prompts)` gives the mean
    attainment with an interval that includes the scale's own error.

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
            "which is not clearly above 0, so nothing can be measured in its units; give more prompts or another style."
        )
    (similarities,) = as_rows(similarities)
    return (similarities - calibration.base) / calibration.span.value


def as_rows(*rows: ArrayLike) -> list[np.ndarray]:
    """Validate rows of one number per picture and return them as float64 (N,) each.

    Raises:
        InputError: no numbers, some that are not finite, or rows of different lengths.
    """
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    if any(row.ndim != 1 or not len(row) or row.shape != arrays[0].shape for row in arrays):
        shapes = " and ".join(str(row.shape) for row in arrays)
        raise InputError(f"Pictures need one number each, in rows of one length, but got shapes {shapes}.")
    if not all(np.isfinite(row).all() for row in arrays):
        raise InputError("Some pictures' numbers are not finite; look at what made them.")
    return arrays
