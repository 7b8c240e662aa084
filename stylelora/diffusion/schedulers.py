"""Schedulers to sample with: the base's own, or another; each picture is determined by its seed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylelora.base.load import configs_of, load_scheduler
from stylelora.base.zero_terminal_snr import able_to, has_zero_terminal_snr
from stylelora.records import InputError


def own_scheduler(base: Path, num_inference_steps: int) -> Any:
    """Return the base's own scheduler, after a trial run on a few numbers.

    Args:
        base: folder or file of the base.
        num_inference_steps: number of denoising steps.

    Raises:
        InputError: if it cannot sample, or draws noise of its own, so that a picture would depend on its batch.
    """
    scheduler = load_scheduler(base)
    what = f"{type(scheduler).__name__}, the scheduler of {configs_of(base) / 'scheduler' / 'scheduler_config.json'},"
    _check(scheduler, num_inference_steps, what, "write another there as _class_name, such as DDIMScheduler")
    return scheduler


def other_scheduler(path: str, like: Any, num_inference_steps: int) -> Any:
    """Return a diffusers scheduler with the settings of another, after a trial run on a few numbers.

    Args:
        path: path of the class.
        like: the base's own scheduler.
        num_inference_steps: number of denoising steps.

    Raises:
        InputError: if there is none, it does not suit the base, or it draws noise of its own, so that a picture would
            not be determined by its seed.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"scheduler {path!r} is not there; give a class such as diffusers.DDIMScheduler") from error
    if has_zero_terminal_snr(like) and not able_to(found):
        raise InputError(f"{path} knows no zero terminal SNR; give a class that does, such as diffusers.DDIMScheduler")
    try:
        scheduler = found.from_config(like.config)
    except Exception as error:  # each class raises its own errors
        raise InputError(f"{path} does not suit this base; give a class such as diffusers.DDIMScheduler") from error
    _check(scheduler, num_inference_steps, path, "give a deterministic one such as diffusers.DDIMScheduler")
    return scheduler


def _check(scheduler: Any, num_inference_steps: int, what: str, advice: str) -> None:
    if not 1 <= num_inference_steps <= (most := scheduler.config.num_train_timesteps):
        raise InputError(f"num_inference_steps is {num_inference_steps}; give 1 to {most}")
    numbers = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    try:
        with torch.random.fork_rng(devices=[]):
            tried = [_tried(scheduler, numbers, num_inference_steps) for _ in range(2)]
    except Exception as error:  # each class raises its own errors
        raise InputError(f"{what} does not suit this base; {advice}") from error
    if not torch.equal(*tried):
        raise InputError(f"{what} draws noise of its own; {advice}")


def _tried(scheduler: Any, numbers: Tensor, num_inference_steps: int) -> Tensor:
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    for t in scheduler.timesteps:
        numbers = scheduler.step(scheduler.scale_model_input(numbers, t) / 2, t, numbers).prev_sample
    return numbers
