"""Skill of each condition: the share of the base's loss on held-out pictures that it removes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.evaluation.measurements import Measurements
from stylelora.lora.read import BASE
from stylelora.metrics.skill import SKILL, SKILL_AT_TIMESTEP, skill_interval


def measure_skill(found: Measurements, rows: Sequence[dict]) -> None:
    """Measure the skill of each condition on held-out pictures of each style, overall and at each timestep of the bank.

    The skills of all conditions on all styles form the cross matrix. An adapter has learned its style, and not just to
    draw better in general, if its skill is highest on its own style.

    Args:
        found: the metrics are added to it.
        rows: `style`, `condition`, `losses` of each held-out picture, in the same order for all conditions.
    """
    losses: dict[tuple[str, str], list] = {}
    for row in rows:
        losses.setdefault((row["condition"], row["style"]), []).append(row["losses"])
    table = {key: np.asarray(value) for key, value in losses.items()}
    for (condition, style), loss in table.items():
        if condition == BASE:
            continue
        base = table[BASE, style]
        found.add(SKILL.of(skill_interval(loss.mean(1), base.mean(1)), condition, style=style))
        for column, timestep in enumerate(BANK_TIMESTEPS):
            skill = skill_interval(loss[:, column], base[:, column])
            found.add(SKILL_AT_TIMESTEP.of(skill, condition, style=style, at=(timestep,)))
