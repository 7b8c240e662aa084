"""Where a training stands, asked of Lightning's loops in one place."""

from __future__ import annotations

import lightning.pytorch as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from stylelora.console.stopping import Stopped


def validate(trainer: L.Trainer) -> None:
    """Validate at the end of an epoch that was not validated."""
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def validate_after_this_batch(trainer: L.Trainer) -> None:
    """Let a validation follow that a run that is not stopped would not make."""
    trainer.check_val_every_n_epoch, trainer.val_check_batch, trainer.closes = None, 1, True


def is_last_batch(trainer: L.Trainer) -> bool:
    """Return whether this batch, or the last one, is the last of its epoch."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def is_step(trainer: L.Trainer) -> bool:
    """Return whether the optimiser made a step with this batch, so that no gradients wait for others."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def validates_next(trainer: L.Trainer) -> bool:
    """Return whether a validation belongs to this batch, whether or not the run is stopped here."""
    stop, trainer.should_stop = trainer.should_stop, False
    due = trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
    trainer.should_stop = stop
    return due and not getattr(trainer, "closes", False)


def is_trained(trainer: L.Trainer) -> bool:
    """Return whether all steps of the run have been made, so that a resumed one would make none."""
    last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
    return trainer.global_step == trainer.max_steps or (last_epoch and is_last_batch(trainer))


def cannot_validate_again(trainer: L.Trainer) -> bool:
    """Return whether a run resumed here would go on after this validation instead of making it again."""
    epochs = trainer.fit_loop.epoch_progress.current
    return trainer.global_step == trainer.max_steps or epochs.processed > epochs.completed


def epoch_of_last_step(trainer: L.Trainer) -> int:
    """Return the index of the epoch of the last step."""
    epochs = trainer.fit_loop.epoch_progress.current
    return max(0, trainer.current_epoch - (epochs.ready == epochs.completed))


def was_stopped(trainer: L.Trainer, exception: BaseException) -> bool:
    """Return whether a training was stopped from outside where its state is whole, not that of half a step."""
    if isinstance(exception, SIGTERMException):  # raised by Lightning between two steps
        return True
    return isinstance(exception, Stopped) and (not exception.torn or trainer.validating)
