"""How a training ends: with a validation of what it ends with."""

from __future__ import annotations

import math

import lightning.pytorch as L

from callbacks.progress import validate


class EndTraining(L.Callback):
    """Validates what a training ends with, wherever it ends: after its last step or epoch, or its time."""

    def __init__(self) -> None:
        self.validated = -1  # step of the last validation
        self.by_steps = False  # whether steps alone end it

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell the progress bar how many epochs the steps take."""
        del pl_module
        self.by_steps = trainer.max_epochs == -1 and trainer.max_steps > 0
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready  # of an epoch that is resumed
        self._count_epochs(trainer, trainer.current_epoch, done)

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
            validate(trainer)

    def _count_epochs(self, trainer: L.Trainer, begun: int, batches: int = 0) -> None:
        """Tell the trainer how many epochs the steps take, after so many epochs and batches of the next."""
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
        if self.by_steps and steps:
            left = trainer.max_steps - trainer.global_step + math.ceil(batches / trainer.accumulate_grad_batches)
            trainer.fit_loop.max_epochs = begun + math.ceil(left / steps)
