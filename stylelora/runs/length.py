"""The trainer's numbers, and the length of a training: in epochs, or in steps."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from stylelora.console.checks import pairs
from stylelora.records import InputError

#: Option of the trainer that Lightning takes as it comes -> the least that makes sense.
_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "min_steps": 0,
    "num_sanity_val_steps": -1,
}


def check_numbers(trainer: Any) -> None:
    """Check the numbers that Lightning does not check.

    Args:
        trainer: parsed options of the trainer.

    Raises:
        InputError: if one makes no sense.
    """
    for name, least in _LEAST.items():
        value = trainer.get(name)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"trainer.{name} is {value}; give a number of at least {least}")


def steps_over_epochs(trainer: Any, words: Sequence[str]) -> None:
    """Let steps that the command line gives be the length of a run, whatever number of epochs its config names.

    Args:
        trainer: parsed options of the trainer; `max_epochs` is changed.
        words: the command line.
    """
    given = dict(pairs(words))
    if "--trainer.max_steps" in given and "--trainer.max_epochs" not in given and trainer.max_steps > 0:
        if trainer.max_epochs is not None:
            ignored = f"the config's max_epochs {trainer.max_epochs} does not apply"
            print(f"training for {trainer.max_steps} steps; {ignored}", file=sys.stderr)
        trainer.max_epochs = -1


def check_length(trainer: Any) -> None:
    """Refuse a training without a step, and say so if it measures nothing.

    Args:
        trainer: parsed options of the trainer.

    Raises:
        InputError: if nothing would be trained.
    """
    if nothing := [name for name in ("max_epochs", "max_steps", "limit_train_batches") if getattr(trainer, name) == 0]:
        raise InputError(f"trainer.{nothing[0]} is 0, so nothing would be trained; give a number above 0")
    if trainer.limit_val_batches == 0:
        print(
            "trainer.limit_val_batches is 0: nothing is measured, no samples are drawn, and the only adapter is the "
            "last one, NAME-last.safetensors",
            file=sys.stderr,
        )
