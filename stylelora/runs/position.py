"""Where a training is, as a checkpoint of Lightning says it, so that a resumed run goes on exactly there.

Lightning saves the counters of its loops as they are at that moment, and guesses from them which hook was running. Its
guesses make a step or a validation twice, or leave one out, and log at wrong steps (2.6). Here a checkpoint always says
that nothing is running: so many batches of an epoch are done, and perhaps their validation is to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class Position:
    """A place between two batches.

    Attributes:
        epoch: index from 0 of the epoch that goes on.
        batches: batches of it that are done, of which the optimiser has taken all steps.
        total: batches that are done, of all epochs.
        validation: of the last of these batches: "pending" or "done"; "": none, or it makes no difference.
    """

    epoch: int
    batches: int
    total: int
    validation: Literal["", "pending", "done"] = ""

    @classmethod
    def of(cls, loops: Any, whole: int | float, accumulated: int) -> Position:
        """Return where a trainer is; after the last batch of an epoch and its hooks that is in the next epoch.

        Gradients are not saved, so batches that wait for the optimiser's step count as not done.

        Args:
            loops: `trainer.fit_loop`.
            whole: batches of an epoch.
            accumulated: batches of each step of the optimiser.
        """
        epochs, progress = loops.epoch_progress.current, loops.epoch_loop.batch_progress
        done, begun = progress.current.processed, progress.total.ready
        last = done >= whole or progress.is_last_batch
        runs = epochs.started > epochs.completed
        ended = not runs or epochs.processed > epochs.completed
        epoch = epochs.completed if runs else epochs.completed - 1
        if ended and (last or not done):  # an epoch that a limit or a stop ended before its last batch goes on
            return cls(epoch + 1, 0, begun)
        batches = done if last else done // accumulated * accumulated
        return cls(epoch, batches, begun - (progress.current.ready - batches))


def at_rest(checkpoint: dict, position: Position, steps: int) -> None:
    """Let a checkpoint say that nothing is running, in the only terms that Lightning takes up without a fault.

    Args:
        checkpoint: changed in place.
        position: where the run goes on.
        steps: finished optimiser steps.
    """
    loop, epoch, batches = checkpoint["loops"]["fit_loop"], position.epoch, position.batches
    checkpoint["epoch"] = epoch
    begun = epoch + (batches > 0)  # "restarted mid epoch", else "on epoch start"
    loop["epoch_progress"] = _both(ready=epoch + 1, started=begun, processed=epoch, completed=epoch)
    counters = loop["epoch_loop.batch_progress"]
    # "Restarted on last" finds the validation as `validation` says. Else one batch is said to be ready but not begun:
    # then Lightning takes a validation as done, and counts the step that is missing below.
    began = position.total if position.validation else position.total - 1
    counters["total"] = {"ready": position.total, "started": began, "processed": began, "completed": began}
    counters["current"] = dict.fromkeys(("ready", "started", "processed", "completed"), batches)
    counters["is_last_batch"] = bool(position.validation) and counters["is_last_batch"]
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps - 1  # it adds one in each of these cases
    waiting = int(position.validation == "pending")  # "restarted mid evaluation": from its start
    loop["epoch_loop.val_loop.batch_progress"] |= _both(ready=waiting, started=waiting, processed=0, completed=0)
    for loader in loop["state_dict"].get("combined_loader", ()):
        loader["given"] = batches


def _both(**counts: int) -> dict[str, dict[str, int]]:
    return {"total": dict(counts), "current": dict(counts)}
