"""Dropout of a LoRA's ranks and of whole layers of it, as kohya's sd-scripts have it; PEFT has neither.

Draws are from the global generators, like those of PEFT's own dropout, so that they follow one seed, and so that
gradient checkpointing repeats them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def add_dropout(downs: Iterable[nn.Module], rank_dropout: float, module_dropout: float) -> None:
    """Drop ranks or the whole update of layers while they are in training mode.

    Args:
        downs: the modules A of the layers; their output, (B, ..., r) or (B, r, H, W), is what is dropped.
        rank_dropout: probability of each rank, for each picture; what is left is divided by 1 - rank_dropout.
        module_dropout: probability of each layer, for all pictures; what is left is not scaled.
    """
    if rank_dropout or module_dropout:
        for down in downs:
            down.register_forward_hook(functools.partial(_dropped, rank_dropout, module_dropout))


def _dropped(rank_dropout: float, module_dropout: float, down: nn.Module, _: tuple, inner: Tensor) -> Tensor | None:
    if not down.training:
        return None
    if module_dropout and torch.rand(()).item() < module_dropout:
        return inner * 0  # not zeros without a history: DDP waits for every gradient
    if not rank_dropout:
        return None
    ranks = 1 if isinstance(down, nn.Conv2d) else inner.ndim - 1
    shape = [size if axis in (0, ranks) else 1 for axis, size in enumerate(inner.shape)]
    return inner * (torch.rand(shape, device=inner.device) > rank_dropout) / (1 - rank_dropout)
