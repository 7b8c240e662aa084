"""Contrasts: weighted sums of the means of several arms, such as a difference of two or a slope over levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylelora.metrics.comparison import Comparison
from stylelora.metrics.nested import Crossed, Spread, error
from stylelora.records import InputError


@dataclass(frozen=True)
class Contrast(Spread):
    """A weighted sum of means of arms that share their prompts but not their training seeds.

    The sources of error are each arm's training seeds, and the prompts, by the weighted sum of each prompt's means. An
    arm with a single training seed says nothing about how seeds vary: the pooled variance of the arms that have several
    stands for it. If no arm has several, the interval covers the prompts only, and holds for these adapters alone.

    Attributes:
        arms: table of each arm, (S, P), with the same P prompts in the same order.
        weights: one for each arm.
    """

    arms: Sequence[np.ndarray]
    weights: Sequence[float]

    @property
    def value(self) -> float:
        """Return the weighted sum."""
        return float(sum(weight * arm.mean() for weight, arm in zip(self.weights, self.arms, strict=True)))

    @property
    def parts(self) -> list[tuple[float, int]]:
        """Return the errors of each arm's training seeds, and of the prompts."""
        prompts = sum(weight * arm.mean(0) for weight, arm in zip(self.weights, self.arms, strict=True))
        if len(prompts) == 1:
            return [(np.inf, 1)]
        found, freedom = [(error(prompts), len(prompts) - 1)], sum(len(arm) - 1 for arm in self.arms)
        if not freedom:
            return found
        pooled = np.sqrt(sum(((arm.mean(1) - arm.mean()) ** 2).sum() for arm in self.arms) / freedom)
        alone = [weight for weight, arm in zip(self.weights, self.arms, strict=True) if len(arm) == 1]
        if alone:
            found.append((float(pooled * np.linalg.norm(alone)), freedom))
        for weight, arm in zip(self.weights, self.arms, strict=True):
            if len(arm) > 1:
                found.append((abs(weight) * error(arm.mean(1)), len(arm) - 1))
        return found


def contrast(arms: Sequence[Crossed], weights: Sequence[float], paired: bool) -> Spread:
    """Return a weighted sum of the means of arms, with its uncertainty.

    Args:
        arms: each over the same prompts in the same order.
        weights: one for each arm, such as 1 and -1.
        paired: the arms have the same training seeds in the same order, so that what a seed does to all arms cancels,
            as what a prompt does always cancels.

    Raises:
        InputError: arms of other numbers of prompts, or paired ones of other numbers of training seeds.
    """
    tables = [arm.table for arm in arms]
    if len({table.shape[1] for table in tables}) > 1:
        raise InputError("Arms of a comparison need the same prompts; test them with the same data.")
    if not paired:
        return Contrast(tables, weights)
    if len({len(table) for table in tables}) > 1:
        raise InputError("Arms can be paired by training seed only if they have the same ones.")
    return Crossed(sum(weight * table for weight, table in zip(weights, tables, strict=True)))


def compared(found: Spread, n: int, level: float = 0.95) -> Comparison:
    """Return a contrast with its interval, and the p-value of its being 0: the level at which the interval reaches 0.

    Args:
        found: from `contrast`.
        n: number that the interval is to state.
        level: coverage of the interval, in (0, 1).
    """
    return Comparison(found.interval(n, level), min(1.0, 2 * found.tail(abs(found.value))))


def equal_within(found: Spread, margin: float) -> float:
    """Return the p-value of a contrast's being further from 0 than a margin; see `comparison.equivalence`.

    Args:
        found: from `contrast`.
        margin: largest size that does not matter, above 0.
    """
    if np.isinf(found.half_width(0.25)):
        return 1.0
    return found.tail(margin - abs(found.value))
