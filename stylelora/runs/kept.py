"""Selection of the adapter that is kept; a run's file, checkpoint and metrics are its."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stylelora.records import InputError

Rule = Literal["balanced", "skill", "last"]


def point(epoch: int, step: int) -> str:
    """Return how files name a point of the training: the epoch, from 0, and the finished optimiser steps."""
    return f"epoch={epoch:03d}-step={step:06d}"


def content_of(score: float | None, base: float | None, real: float | None) -> float | None:
    """Return how well samples show what their prompts say, as a share of how well that can be recognised.

    A style of bare outlines makes things hard to recognise for the judge, too. So the scale is the CLIP score of the
    base's samples, or that of real pictures of the style with their captions if that is lower.

    None if it was not measured, or the judge recognises nothing at all in them.

    Args:
        score: CLIP score of the samples; None: not measured.
        base: that of the base's samples of the same prompts and seeds.
        real: that of held-out pictures; None: there are none.
    """
    if score is None or base is None:
        return None
    scale = min(float(base), float(base if real is None else real))
    return float(score) / scale if scale > 0 else None


@dataclass
class Kept:
    """The best validated adapter so far, by a rule; the earliest on ties.

    Training loss is no criterion, since it keeps falling as an adapter memorises its pictures; skill alone can be
    highest for an adapter that no longer draws what a prompt says. The module offers what every validation measures,
    and logs the result as `val/kept_step`. Whatever saves the kept adapter (file, checkpoint, metrics) does so whenever
    it is the current one.

    Attributes:
        rule: balanced: the highest skill among those whose `content` is at least `share`; as long as there is none, the
            one with the highest content; without scores as `skill`. skill: the highest held-out skill. last: the last
            validated one. Without held-out pictures always the last.
        share: as of `content_of`.
        epoch: index from 0; -1 before the first.
        step: finished optimiser steps.
        skill: its held-out skill; None: there are no held-out pictures.
        content: its `content_of`; None: not scored.
    """

    rule: Rule = "balanced"
    share: float = 0.9
    epoch: int = -1
    step: int = -1
    skill: float | None = None
    content: float | None = None

    def check(self) -> None:
        """Check the share.

        Raises:
            InputError: if it is none.
        """
        if not 0 <= self.share <= 1:
            raise InputError(f"keep_share is {self.share}; give a share of the CLIP score, from 0 to 1")

    def offer(self, epoch: int, step: int, skill: float | None, content: float | None) -> int:
        """Keep an adapter if it is better than all earlier ones.

        Args:
            epoch: index from 0.
            step: finished optimiser steps.
            skill: held-out skill; None: not measured; one that is not finite is never kept.
            content: as of `content_of`; None: not measured.

        Returns:
            step of the kept adapter.
        """
        rank = self._rank(step, skill, content)
        if all(map(math.isfinite, rank)) and (self.step < 0 or rank > self._rank(self.step, self.skill, self.content)):
            self.epoch, self.step, self.skill, self.content = epoch, step, skill, content
        return self.step

    def _rank(self, step: int, skill: float | None, content: float | None) -> list[float]:
        if skill is None or self.rule == "last":
            return [float(step)]
        if self.rule == "skill":
            return [skill]
        if content is None:
            return [-1.0, skill]
        return [1.0, skill] if content >= self.share else [0.0, content]

    @property
    def warning(self) -> str:
        """Return what a person should know about the choice, "" if all is well."""
        if self.step < 0:
            return ""
        if self.skill is None:
            return "there are no held-out pictures, so no skill was measured: the last adapter is kept"
        if self.rule == "balanced" and self.content is not None and self.content < self.share:
            return (
                f"no adapter's samples have {self.share:.0%} of the CLIP score of the base or of the style's own "
                f"pictures, so they may no longer show what prompts say; the one after epoch {self.epoch} has the "
                f"most, {self.content:.0%}, and is kept; look at its samples"
            )
        return ""
