"""Optimisers and learning-rate schedules: built as a config names them, checked before anything is encoded."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from stylelora.records import InputError


class Schedule(LambdaLR):
    """Learning rate that rises, stays and falls, in optimiser steps.

    Args:
        optimizer: what it steers; its learning rates are those of the middle.
        shape: constant, linear (falls to 0 in a line) or cosine (falls to 0 along half a cosine).
        warmup: steps over which it first rises from 0 in a line; below 1: share of all steps.
        decay: final share of the steps over which it falls, at most what the warm-up leaves.
        cycles: cosine: how often it falls; each time it starts again from the top (Loshchilov & Hutter 2017).
        total_steps: number of all steps; default: the run's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shape: Literal["constant", "linear", "cosine"] = "constant",
        warmup: float = 0.0,
        decay: float = 1.0,
        cycles: int = 1,
        total_steps: int | None = None,
    ) -> None:
        given = f"model.lr_scheduler has shape {shape}, warmup {warmup}, decay {decay} and cycles {cycles}"
        if not (math.isfinite(warmup) and warmup >= 0 and (warmup < 1 or warmup == int(warmup))):
            raise InputError(f"{given}; give a warmup below 1, a share, or a whole number of steps")
        if not 0 < decay <= 1:
            raise InputError(f"{given}; give decay a share above 0, at most 1")
        if cycles < 1 or (cycles > 1 and shape != "cosine"):
            raise InputError(f"{given}; only cosine has more than one cycle")
        if total_steps is None and shape == "constant" and (warmup >= 1 or warmup == 0):
            total_steps = 1  # not needed
        if total_steps is None:
            raise InputError(f"{given}, but the run has no known length; give trainer.max_steps or trainer.max_epochs")
        rise = warmup if warmup >= 1 else round(warmup * total_steps)
        if shape != "constant" and rise >= total_steps:
            raise InputError(f"{given}, but the run has only {total_steps} steps; warm up for fewer")
        self.shape, self.rise, self.cycles, self.total = shape, rise, cycles, total_steps
        self.fall, self.start = min(decay, 1 - rise / total_steps), max(rise, total_steps * (1 - decay))
        super().__init__(optimizer, self.factor)

    def factor(self, step: int) -> float:
        """Return the learning rate before a step, as a factor of the optimiser's own."""
        if step < self.rise:
            return step / self.rise
        if self.shape == "constant":
            return 1.0
        if self.shape == "linear" or step >= self.total:
            return max(0.0, min(1.0, (1 - step / self.total) / self.fall))  # 1 until it falls
        fallen = max(0.0, step - self.start) / (self.total - self.start)
        return 0.5 * (1 + math.cos(math.pi * (fallen * self.cycles % 1)))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values only, which checkpoints can hold; the shape comes from the config."""
        return {name: value for name, value in super().state_dict().items() if name != "lr_lambdas"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a step, with this run's shape and length."""
        own = {name: getattr(self, name) for name in ("shape", "rise", "cycles", "total", "fall", "start")}
        self.__dict__.update(state_dict | own)


def averages(optimizer: Optimizer) -> bool:
    """Return whether an optimiser has an average to evaluate, and so a mode to train in and one to evaluate in."""
    return hasattr(optimizer, "train") and hasattr(optimizer, "eval")


def check_optimizer(
    make: Callable[[list], Optimizer], lr_scheduler: Callable | None, ema_decay: float | None = None
) -> None:
    """Try an optimiser and its schedule on one number.

    Raises:
        InputError: if they cannot be built with these options.
    """
    try:
        optimizer = make([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise InputError(f"model.optimizer {name_of(make)} cannot be used:  {' '.join(str(error).split())}") from error
    if ema_decay is not None and averages(optimizer):
        raise InputError(f"model.optimizer {name_of(make)} and model.ema_decay both average the adapter; leave out one")
    rates = [group.get("lr") for group in optimizer.param_groups]
    if bad := [rate for rate in rates if rate is not None and not (math.isfinite(rate) and rate > 0)]:
        raise InputError(f"model.optimizer's learning rate lr is {bad[0]}; it must be a number above 0, such as 1.0e-4")
    if lr_scheduler is None:
        return
    try:
        with_schedule(optimizer, lr_scheduler, 10**6)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"model.lr_scheduler {name_of(lr_scheduler)} cannot be used:  {error}") from error


def with_schedule(optimizer: Optimizer, lr_scheduler: Callable | None, total_steps: float) -> Optimizer | dict:
    """Return what Lightning takes: the optimiser, with a schedule that takes a step after each of its steps.

    Args:
        optimizer: the optimiser.
        lr_scheduler: makes the schedule; None: the learning rate is constant.
        total_steps: optimiser steps of the run, given to schedules that have this argument; infinite: not known.
    """
    if lr_scheduler is None:
        return optimizer
    known = "total_steps" in inspect.signature(_made(lr_scheduler)).parameters
    known = known and not getattr(lr_scheduler, "keywords", {}).get("total_steps")
    more = {"total_steps": int(total_steps)} if known and math.isfinite(total_steps) else {}
    schedule: LRScheduler | ReduceLROnPlateau = lr_scheduler(optimizer, **more)
    setting: dict[str, Any] = {"scheduler": schedule, "interval": "step"}
    if isinstance(schedule, ReduceLROnPlateau):
        setting |= {"interval": "epoch", "monitor": "val/loss"}
    return {"optimizer": optimizer, "lr_scheduler": setting}


def go_to(schedule: LRScheduler | ReduceLROnPlateau, steps: int) -> None:
    """Set a new schedule, and the learning rates of its optimiser, to where it is after some steps.

    One that waits for measurements starts where it is.
    """
    if isinstance(schedule, ReduceLROnPlateau):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps without the optimiser's
        for _ in range(steps):
            schedule.step()


def name_of(make: Callable) -> str:
    """Return the class that a callable makes, such as torch.optim.AdamW."""
    found = _made(make)
    return f"{found.__module__}.{getattr(found, '__qualname__', type(found).__name__)}"


def _made(make: Callable) -> Callable:
    """Return the class that a callable makes: jsonargparse's are partials, with the class among their arguments."""
    made = [one for one in getattr(make, "args", ()) if isinstance(one, type)]
    return made[0] if made else getattr(make, "func", make)


def settings_of(make: Callable | None) -> dict | None:
    """Return the class and the settings of what a callable makes, as plain values."""
    if make is None:
        return None
    settings = make.keywords if isinstance(make, functools.partial) else {}
    return {"class_path": name_of(make), "init_args": {key: _plain(value) for key, value in settings.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
