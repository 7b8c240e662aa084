"""Which epoch of a training is kept; the files and metrics of a run are those of this epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KeptEpoch:
    """The epoch kept so far: the one with the highest held-out skill, the first among equals.

    Not the training loss, which falls further the more an adapter memorises its pictures. A module offers every
    epoch and logs the answer as `val/kept_epoch`. Whatever writes something of the kept epoch (adapter, checkpoint,
    metrics) does so whenever that is the current epoch.

    Attributes:
        epoch: counted from 0; -1 before there is one.
        score: of that epoch; another rule is another score.
    """

    epoch: int = -1
    score: float = float("-inf")

    def offer(self, epoch: int, skill: float) -> int:
        """Keep an epoch if it is better than all before.

        Args:
            epoch: counted from 0.
            skill: held-out skill after it; one that is not a number is never better.

        Returns:
            the epoch that is kept now.
        """
        if skill > self.score:
            self.epoch, self.score = epoch, skill
        return self.epoch
