"""Skill: the share of the base's loss that an adapter removes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from stylelora.metrics.measure import Measure
from stylelora.metrics.statistics import finite, ratio_interval
from stylelora.records import Estimate, InputError, Metric

SKILL = Measure("skill", "share of the base's loss on held-out pictures that the adapter removes")
SKILL_AT_TIMESTEP = Measure("skill_at_timestep", "the same at one timestep")


def measured_skill(rows: Sequence[Mapping[str, Any]], epoch: int) -> tuple[Metric, Tensor, Tensor]:
    """Return the skill on held-out pictures, and the mean losses of the adapter and of the base, float64 ().

    Args:
        rows: `loss` and `base_loss` of each picture, float tensors ().
        epoch: index of the epoch, for the error.

    Raises:
        InputError: a loss is not finite.
    """
    loss, base_loss = (torch.stack([row[name] for row in rows]).double() for name in ("loss", "base_loss"))
    if not loss.isfinite().all():
        raise InputError(
            f"the held-out loss of epoch {epoch} is not a number: training has diverged; lower model.optimizer.lr"
        )
    return SKILL.of(skill_interval(loss.numpy(), base_loss.numpy())), loss.mean(), base_loss.mean()


def skill_interval(
    loss: ArrayLike, base_loss: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Return the share of the base's loss that an adapter removes, 1 - sum(loss) / sum(base_loss), with an interval.

    Losses on different data sets are not comparable; skills are, if both losses come from one fixed bank of
    pictures, noises, timesteps and captions. 0: no better than the base; 1: perfect; negative: worse. The bootstrap is
    paired: each resample uses the same pictures for both losses, so a picture's difficulty cancels.

    Args:
        loss: each picture's mean loss with the adapter, >= 0, (N,).
        base_loss: the same without an adapter, > 0, (N,).
        level: coverage of the interval, in (0, 1).
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the global generators are not used.

    Returns:
        `n` is the number of pictures. With one picture the interval is (-inf, inf), as for `mean_interval`.

    Raises:
        InputError: no losses, losses that are not finite, of different lengths, or a base loss that is not positive.
    """
    loss, base_loss = finite(loss, "losses"), finite(base_loss, "base losses")
    if len(loss) != len(base_loss) or (base_loss <= 0).any():
        raise InputError("Skill needs one loss and one base loss above 0 for each picture.")
    ratio = ratio_interval(loss, base_loss, None, level, resamples, seed)
    return Estimate(1 - ratio.value, 1 - ratio.ci_high, 1 - ratio.ci_low, ratio.n)
