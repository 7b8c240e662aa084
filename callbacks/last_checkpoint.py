"""The last state of a run, from which it goes on as if it had never stopped."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint

from callbacks import progress
from stylelora.records import InputError
from stylelora.runs.loggers import lengths
from stylelora.runs.position import Position, at_rest


class LastCheckpoint(Checkpoint):
    """Writes `checkpoints/last.ckpt`: the state after each epoch, and within epochs every few minutes.

    A run that was killed at any moment and is resumed from there ends, on a CPU, with the same bits as one that ran
    through. The state is always that between two steps, with everything that these steps logged and wrote; what a
    killed run did after it is made again. A run that is stopped leaves the state before its closing validation, which
    a run that had not been stopped would not have made.

    Every checkpoint of the run, such as `best.ckpt`, says in this way where it goes on.

    Args:
        every_n_minutes: most minutes of training that a kill can cost; 0 saves after every step; null: only after
            epochs.
    """

    def __init__(self, every_n_minutes: float | None = 5.0) -> None:
        if every_n_minutes is not None and not 0 <= every_n_minutes < math.inf:
            raise InputError(f"last_checkpoint.every_n_minutes is {every_n_minutes}; give a number from 0, or null")
        self.seconds = None if every_n_minutes is None else 60 * every_n_minutes
        self.saved = time.monotonic()
        self.begun = -1  # step at which this process began to train
        self.validated = self.stopped = -1  # steps of the last validation, and of a stop whose state is saved
        self.logged: dict[str, int] | None = None  # lengths of the logs before a stop, which logs its step once more

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave out the batches that were done; Lightning forgets it where a schedule asked for the run's length."""
        del pl_module
        self.saved, self.begun = time.monotonic(), trainer.global_step
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done and hasattr(trainer.train_dataloader, "load_state_dict"):
            trainer.train_dataloader.load_state_dict({"given": done})

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state after the last epoch, with all that its end brought."""
        if trainer.global_step > self.begun:
            self._save(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Save the state between two steps if it is time."""
        if self._is_time(trainer) and trainer.global_step > self.begun:
            self._save(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember what is logged, for a stop makes Lightning log a step that is not due."""
        self.logged = None
        if trainer.should_stop and trainer.global_step % max(1, trainer.log_every_n_steps):
            self.logged = lengths(trainer.loggers, Path(trainer.default_root_dir))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state before a stopped run's closing validation, and before others if it is time.

        Not after the last of a given number of steps: Lightning makes no validation of a run that has them all.
        """
        del pl_module
        if self.begun < 0 or trainer.sanity_checking or trainer.global_step == trainer.max_steps:
            return
        stops = trainer.should_stop and not progress.is_trained(trainer)
        if stops or self._is_time(trainer):
            self._save(trainer)
            self.stopped = trainer.global_step if stops else -1

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on what is saved comes after the validation."""
        del pl_module
        self.validated = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let Lightning reduce the learning rate on a plateau after a resumed epoch, too."""
        del pl_module
        trainer.fit_loop._restarting = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what the training ends with."""
        del pl_module
        if self.stopped != trainer.global_step:
            self._save(trainer)

    def save_stopped(self, trainer: L.Trainer) -> None:
        """Save the state of a training that was stopped, without waiting for other devices: they may be gone."""
        if self.begun >= 0 and self.stopped != trainer.global_step:
            state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.save_checkpoint(state, self._file(trainer))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict) -> None:
        """Say in any checkpoint where the run goes on, and what it had logged by then."""
        del pl_module
        step, whole = trainer.global_step, trainer.num_training_batches
        position = Position.of(trainer.fit_loop, whole, trainer.accumulate_grad_batches)
        whole = position.batches >= whole
        if position.batches == trainer.fit_loop.epoch_loop.batch_progress.current.ready > 0:  # none has begun since
            if progress.validates_next(trainer):
                done = "done" if whole else ""
                position.validation = done if self.validated == step else "pending"
            elif whole:
                position = Position(position.epoch + 1, 0, position.total)
        at_rest(checkpoint, position, step)
        stops = self.logged is not None and self.validated != step
        checkpoint["logs"] = self.logged if stops else lengths(trainer.loggers, Path(trainer.default_root_dir))

    def _is_time(self, trainer: L.Trainer) -> bool:
        if self.seconds is None:
            return False
        return trainer.strategy.broadcast(time.monotonic() - self.saved >= self.seconds)  # the first process's clock

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._file(trainer), weights_only=False)
        self.saved = time.monotonic()

    def _file(self, trainer: L.Trainer) -> Path:
        return Path(trainer.default_root_dir, "checkpoints", "last.ckpt")
