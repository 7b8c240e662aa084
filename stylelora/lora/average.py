"""Averages of an adapter's weights over the steps of a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stylelora.records import InputError
from stylelora.schedules import averages

log = logging.getLogger(__name__)


class Average:
    """The average of the parameters over the steps of a training, shown in their place when it is asked for.

    It is an exponential moving one, or that of an optimiser that averages (`schedulefree`; Defazio et al. 2024). Early
    averages forget faster: the decay after n steps is at most (1 + n) / (10 + n) (diffusers' EMAModel).

    Args:
        parameters: what is averaged, float32.
        decay: share of the average that each step leaves; None: no average, and nothing below changes anything.

    Raises:
        InputError: the decay is no share.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float | None) -> None:
        self.parameters, self.is_shown, self.model, self.decay = list(parameters), False, None, decay
        if decay is not None and not 0 < decay < 1:
            raise InputError(f"ema_decay is {decay}; give a number between 0 and 1, such as 0.999, or null")
        self.optimizer: Optimizer | None = None
        self.own: list[Tensor] = []  # the parameters, while the optimiser's average is in their place
        self.found: list[Tensor] = []  # the average of a checkpoint, for a run without an optimiser
        if decay is not None:
            from diffusers.training_utils import EMAModel

            self.model = EMAModel(self.parameters, decay=decay, foreach=True)

    def follow(self, optimizer: Optimizer) -> Optimizer:
        """Show the average of an optimiser that has one, which is what its `train` and `eval` mean; return it."""
        if averages(optimizer):
            optimizer.train()
            self.optimizer = optimizer
        elif self.found:
            log.warning("the checkpoint's average of the weights ends here, for this run has none; see model.ema_decay")
            self.found = []
        return optimizer

    def update(self) -> None:
        """Take in the parameters, after a step of the optimiser."""
        if self.model is not None:
            self.model.to(self.parameters[0].device)
            self.model.step(self.parameters)

    def show(self) -> None:
        """Put the average in the parameters' place."""
        if self.is_shown:
            return
        if self.model is not None:
            self.model.store(self.parameters)
            if self.model.optimization_step:  # else nothing was taken in
                self.model.copy_to(self.parameters)
        elif average := self._of_optimizer():
            self.own = _copies(self.parameters)
            _fill(self.parameters, average)
        self.is_shown = True

    def hide(self) -> None:
        """Put the parameters' own values back, bit for bit."""
        if self.is_shown and self.model is not None:
            self.model.restore(self.parameters)
        _fill(self.parameters, self.own)
        self.is_shown, self.own = False, []

    def _of_optimizer(self) -> list[Tensor]:
        """Return the optimiser's average; its mode and the parameters are left as they are."""
        if self.optimizer is None:
            return self.found
        own = _copies(self.parameters)
        self.optimizer.eval()
        average = _copies(self.parameters)
        self.optimizer.train()
        _fill(self.parameters, own)  # `train` only restores them up to rounding
        return average

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
        if self.optimizer is not None or self.found:
            with self.shown():
                return {"average": _copies(self.parameters)}
        return None if self.model is None else self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint's average, with this run's decay; without one the average starts anew."""
        if state is not None and self.model is not None and "shadow_params" in state:
            self.model.load_state_dict(state)
            self.model.decay = self.decay
        elif state is not None:
            self.found = state["average"] if "average" in state else state["shadow_params"]


def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _fill(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=False):  # no values: nothing to do
        parameter.copy_(value)
