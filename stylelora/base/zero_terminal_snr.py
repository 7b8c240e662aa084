"""Noise schedules whose last timestep is pure noise: zero terminal SNR (Lin et al. 2023).

The usual schedule leaves a trace of the picture in the last timestep, its mean above all, which a sampler that starts
from pure noise does not have; so its pictures are of medium brightness.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

#: Note of a LoRA that was trained so, as kohya writes it.
NOTE = "ss_zero_terminal_snr"


def has_zero_terminal_snr(scheduler: Any) -> bool:
    """Return whether a scheduler's last timestep is pure noise, by its config."""
    return bool(scheduler.config.get("rescale_betas_zero_snr", False))


def able_to(kind: type) -> bool:
    """Return whether a class of schedulers heeds such a config."""
    return "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters


def with_zero_terminal_snr(scheduler: Any) -> Any:
    """Return the scheduler with rescaled betas (alg. 1), and steps that begin at the last timestep (`trailing`).

    It stays of its class, unless that ignores such a config; then it becomes DDIM, which the paper uses. One that is so
    already is returned unchanged.
    """
    from diffusers import DDIMScheduler

    able = able_to(type(scheduler))
    if able and has_zero_terminal_snr(scheduler):
        return scheduler
    kind, own = (type(scheduler), {}) if able else (DDIMScheduler, {"clip_sample": False})  # latents have no range
    return kind.from_config(scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing", **own)


def scheduler_for(adapters: Mapping[str, Mapping[str, str]], scheduler: Any) -> Any:
    """Return the scheduler that LoRAs were trained with, by the notes that we and kohya write, and say so.

    Args:
        adapters: name of each LoRA -> its notes.
        scheduler: the base's; it stays if the LoRAs differ, or if it has zero terminal SNR anyway.
    """
    trained = [name for name, notes in adapters.items() if notes.get(NOTE) == "True"]
    if not trained or has_zero_terminal_snr(scheduler):
        return scheduler
    why = "but others were not" if len(trained) < len(adapters) else ""
    why = why or ("but this base predicts noise" if scheduler.config.prediction_type == "epsilon" else "")
    what = "so the sampler has it, too" if not why else f"{why}, so the sampler has not"
    log.warning("%s was trained with zero terminal SNR, %s", " and ".join(trained), what)
    return scheduler if why else with_zero_terminal_snr(scheduler)
