"""How a training ends: with a validation of what it ends with."""

from __future__ import annotations

import math
import signal
import sys
from types import FrameType
from typing import Any

import lightning.pytorch as L


class EndTraining(L.Callback):
    """Validates what a training ends with, wherever it ends: after its last step or epoch, its time, or Ctrl-C.

    Ctrl-C ends it after the current step, validated and saved; a second one ends it at once. With several devices
    Ctrl-C ends it at once, for they would stop at different steps.
    """

    def __init__(self) -> None:
        self.validated = -1  # step of the last validation
        self.by_steps = False  # whether steps alone end it
        self.before: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to Ctrl-C; tell the progress bar how many epochs the steps take."""
        del pl_module
        trainer.stopped_by_hand = False
        self.by_steps = trainer.max_epochs == -1 and trainer.max_steps > 0
        self._count_epochs(trainer, trainer.current_epoch)

        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            if trainer.should_stop:
                raise KeyboardInterrupt
            trainer.should_stop = trainer.stopped_by_hand = True
            print("\nstopping after this step, with a last validation; Ctrl-C again stops at once", file=sys.stderr)

        if trainer.world_size == 1:
            try:
                self.before = signal.signal(signal.SIGINT, stop)
            except ValueError:  # not in the main thread
                self.before = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember what was validated."""
        del pl_module
        self.validated = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate once more if this is the end and its last steps have not been validated."""
        del pl_module
        self._count_epochs(trainer, trainer.current_epoch + 1)
        step, steps = trainer.global_step, trainer.max_steps
        ends = trainer.should_stop or step == steps or trainer.current_epoch + 1 == trainer.max_epochs
        if ends and self.validated != step and trainer.enable_validation:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def _count_epochs(self, trainer: L.Trainer, begun: int) -> None:
        """Tell the trainer how many epochs the steps take; a resumed run may have had shorter ones before."""
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
        if self.by_steps and steps:
            trainer.fit_loop.max_epochs = begun + math.ceil((trainer.max_steps - trainer.global_step) / steps)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give Ctrl-C back."""
        del trainer, pl_module
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give Ctrl-C back."""
        del exception
        self.on_train_end(trainer, pl_module)
