"""Exponential moving average of an adapter's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from stylelora.records import InputError


class Average:
    """The average of the parameters over the steps of a training, shown in their place when it is asked for.

    Early averages forget faster: the decay after n steps is at most (1 + n) / (10 + n) (diffusers' EMAModel).

    Args:
        parameters: what is averaged, float32.
        decay: share of the average that each step leaves; None: no average, and nothing below changes anything.

    Raises:
        InputError: the decay is no share.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float | None) -> None:
        self.parameters, self.step, self.is_shown, self.model = list(parameters), 0, False, None
        if decay is not None and not 0 < decay < 1:
            raise InputError(f"ema_decay is {decay}; give a number between 0 and 1, such as 0.999, or null")
        if decay is not None:
            from diffusers.training_utils import EMAModel

            self.model = EMAModel(self.parameters, decay=decay)

    def update(self, step: int) -> None:
        """Take in the parameters after an optimiser step; a step that was taken in before changes nothing."""
        if self.model is not None and step > self.step:
            self.step = step
            self.model.to(self.parameters[0].device)
            self.model.step(self.parameters)

    def show(self) -> None:
        """Put the average in the parameters' place."""
        if self.model is not None and not self.is_shown:
            self.model.store(self.parameters)
            self.model.copy_to(self.parameters)
            self.is_shown = True

    def hide(self) -> None:
        """Put the parameters' own values back."""
        if self.is_shown:
            self.model.restore(self.parameters)
            self.is_shown = False

    @contextmanager
    def shown(self, wanted: bool = True) -> Iterator[None]:
        """Show the average within the block, or hide it."""
        before = self.is_shown
        (self.show if wanted else self.hide)()
        try:
            yield
        finally:
            (self.show if before else self.hide)()

    def state_dict(self) -> dict[str, Any] | None:
        """Return the average for a checkpoint."""
        return None if self.model is None else {"taken": self.step, **self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint's average; without one the average starts anew."""
        if state is not None and self.model is not None:
            state = dict(state)
            self.step = state.pop("taken")
            self.model.load_state_dict(state)
