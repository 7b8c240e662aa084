"""Dropout of a LoRA's ranks and of whole layers of it, as kohya's sd-scripts have it; PEFT has neither.

Draws are from the global generators, like those of PEFT's own dropout, so that they follow one seed, and so that
gradient checkpointing repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Dropout:
    """Drops ranks or the whole update of a layer while it is in training mode.

    Attributes:
        ranks: probability of each rank, for each picture; what is left is divided by 1 - ranks.
        whole: probability of the layer, for all pictures; what is left is not scaled.
    """

    ranks: float = 0.0
    whole: float = 0.0

    def __call__(self, inner: Tensor, layer: nn.Module) -> Tensor:
        """Return A x with what is left of it.

        Args:
            inner: A x, float (B, ..., r) or (B, r, H, W).
            layer: PEFT's layer, which is in training mode or not.
        """
        if not layer.training:
            return inner
        if self.whole and torch.rand(()).item() < self.whole:
            return inner * 0  # not zeros without a history: DDP waits for every gradient
        if not self.ranks:
            return inner
        axis_of_ranks = 1 if isinstance(layer.get_base_layer(), nn.Conv2d) else inner.ndim - 1
        shape = [size if axis in (0, axis_of_ranks) else 1 for axis, size in enumerate(inner.shape)]
        return inner * (torch.rand(shape, device=inner.device) > self.ranks) / (1 - self.ranks)
