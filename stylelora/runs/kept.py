"""Selection of the best epoch; a run's files and metrics are those of this epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KeptEpoch:
    """The best epoch so far: the highest held-out skill, the earliest on ties.

    Training loss is no criterion, since it keeps falling as an adapter memorises its pictures. The module offers every
    epoch and logs the result as `val/kept_epoch`. Whatever saves the kept epoch (adapter, checkpoint, metrics) does so
    whenever it is the current one.

    Attributes:
        epoch: index from 0; -1 before the first.
        score: skill of that epoch; to change the criterion, change the score.
    """

    epoch: int = -1
    score: float = float("-inf")

    def offer(self, epoch: int, skill: float) -> int:
        """Keep an epoch if it is better than all earlier ones.

        Args:
            epoch: index from 0.
            skill: held-out skill after it; NaN is never better.

        Returns:
            index of the kept epoch.
        """
        if skill > self.score:
            self.epoch, self.score = epoch, skill
        return self.epoch
