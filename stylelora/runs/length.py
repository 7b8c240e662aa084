"""The length of a training: in epochs, or in steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from stylelora.console.checks import pairs


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
