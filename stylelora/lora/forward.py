"""The forward pass of a LoRA in training, with fewer passes over the outputs than PEFT's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Sum:
    """Adds B A x to what a layer computes.

    PEFT multiplies all of B A x by alpha / rank, which is usually 1, and adds it in a second pass. Here the scale goes
    to the few ranks, and a `Linear` adds while it multiplies. It is a variant in the sense of PEFT, which keeps what
    stands around it: switching adapters off, and types.
    """

    @staticmethod
    def forward(module: nn.Module, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Return the layer's output with its update.

        Args:
            module: PEFT's layer.
            active_adapter: name of the adapter.
            x: input of the layer, cast to the adapter's type.
            result: output of the layer without an adapter, float (..., m) or (B, m, H, W).
        """
        up, scale = module.lora_B[active_adapter], module.scaling[active_adapter]
        inner = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        if scale != 1:
            inner = inner * scale
        if isinstance(up, nn.Linear) and inner.dtype == result.dtype:
            return torch.addmm(result.flatten(0, -2), inner.flatten(0, -2), up.weight.T).view_as(result)
        return result + up(inner)
