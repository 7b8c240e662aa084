"""How a run ends before its time: with its state saved, by whoever asked for it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.strategies.launchers import subprocess_script

from callbacks import progress
from stylelora.console.family import DEVICES, mark_as_parent
from stylelora.console.stopping import CTRL_C, STOPPING, numbers
from stylelora.runs.folder import adapter_file
from stylelora.runs.resume import resume_command
from stylelora.runs.slurm import queue_again


class StopOnSignal(L.Callback):
    """Ends a training after the step in which a signal comes, with its state in `checkpoints/last.ckpt`.

    SIGTERM, SIGHUP and SLURM's SIGUSR1 want the machine, so nothing more is measured; a validation is broken off, and a
    resumed run makes it anew. Ctrl-C, a person's, waits for a validation, and makes one of what there is; a second
    Ctrl-C ends the run at once, as any signal does where nothing is trained.

    Processes that `srun` or `torchrun` started hear a signal each, maybe in different steps: the first one alone ends
    the training, and its end is theirs.
    """

    def __init__(self) -> None:
        self.listening = contextlib.ExitStack()
        self.trains = False

    def begin(self, trainer: L.Trainer) -> None:
        """See to it that no device waits for one that is gone.

        Lightning's observer kills the first process, too, which then says and writes nothing.
        """
        del trainer
        mark_as_parent()
        subprocess_script._launch_process_observer = DEVICES.watch

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Listen, in Lightning's place.

        Its handler of SIGTERM lets a run end with success and hangs with several devices; that of SIGUSR1 saves a state
        in the middle of a step.
        """
        del pl_module, stage
        trainer._signal_connector.register_signal_handlers = lambda: None
        self.listening.enter_context(STOPPING.listening())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let signals wait for the end of a step from here on."""
        del trainer, pl_module
        self.trains, STOPPING.waiting = True, numbers()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """After a signal, let Lightning end the training once this step is logged."""
        del pl_module
        if STOPPING.asked is None or not progress.is_step(trainer):
            return
        by_hand = STOPPING.asked == CTRL_C and trainer.world_size == 1  # other devices may not have made this step
        validates = progress.validates_next(trainer)
        trainer.should_stop = by_hand  # so that the last validation draws
        if validates or progress.is_last_batch(trainer):
            return
        if by_hand and trainer.enable_validation:
            print("\nvalidating what there is; Ctrl-C again stops at once", file=sys.stderr)
            return progress.validate_after_this_batch(trainer)
        self._end(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Break a validation off, if the machine is wanted and a resumed run can make it anew."""
        del pl_module
        if self.trains and trainer.is_global_zero and not progress.cannot_validate_again(trainer):
            STOPPING.waiting = frozenset([CTRL_C])
            STOPPING.check()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait again: what was measured is kept and written."""
        del pl_module
        if self.trains:
            STOPPING.waiting = numbers()
            self._end(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a signal, begin no other epoch."""
        del pl_module
        self._end(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say how a training that was stopped goes on; LastCheckpoint saves its state."""
        del pl_module
        if self.trains and STOPPING.asked is not None and isinstance(exception, SystemExit):
            exception.code = 128 + STOPPING.asked  # Lightning's own has none, which would be success
            STOPPING.advice = self._saved(trainer, progress.was_stopped(trainer, exception))
            queue_again(STOPPING.asked)
        self._leave()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signals back."""
        del trainer, pl_module, stage
        self._leave()

    def _leave(self) -> None:
        self.trains = False
        self.listening.close()

    def _end(self, trainer: L.Trainer) -> None:
        """Let Lightning raise at its next safe place, unless no step is left: then the run just ends."""
        if STOPPING.asked is not None and trainer.is_global_zero and not progress.is_trained(trainer):
            trainer._signal_connector.received_sigterm = True

    def _saved(self, trainer: L.Trainer, whole: bool) -> str:
        """Save the state if it is whole, and return what there is, and how the run goes on."""
        folder, what = Path(trainer.default_root_dir), "what came after the last checkpoint is lost"
        try:
            if whole:
                for callback in trainer.checkpoint_callbacks:
                    getattr(callback, "save_stopped", lambda _: None)(trainer)
                what = f"step {trainer.global_step} is saved"
        except OSError as refused:  # a full disk: what was there before still is
            what += f", for its state cannot be saved: {refused}"
        if not any((folder / "checkpoints").glob("*.ckpt")):
            return what if whole else ""
        kept = f", the adapter so far is {file}" if (file := adapter_file(folder)).is_file() else ""
        return f"{what}{kept}; go on with: {resume_command(folder)}"
