"""Which epoch of a training is kept. Nothing else decides it: files and metrics of a run are those of this epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class KeptEpoch:
    """The epoch that is kept so far, by the rule: the highest held-out skill, of equal ones the first.

    Not the training loss, which falls further the more an adapter learns its pictures by heart. A module offers every
    epoch and logs the answer as `val/kept_epoch`. Whoever writes something of the kept epoch (adapter, checkpoint,
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
