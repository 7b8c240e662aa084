"""The forward pass of a LoRA in training, with fewer passes over its inputs and outputs than PEFT's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylelora.lora.dropout import Dropout


class Sum:
    """Adds B A x to what a layer computes.

    PEFT multiplies all of B A x by alpha / rank, which is usually 1, and adds it in a second pass. Here the scale goes
    to the few ranks, and a `Linear` adds while it multiplies. PEFT casts x to the adapter's float32, and autocast casts
    it back; here the adapter's weights are cast to the type of x, which are fewer. It is a variant in the sense of
    PEFT, which keeps what stands around it, such as switching adapters off.

    Args:
        layer: PEFT's layer.
        dropout: of ranks and of the whole layer.
    """

    def __init__(self, layer: nn.Module, dropout: Dropout) -> None:
        layer.cast_input_dtype_enabled = False
        self.dropout = dropout

    def forward(self, module: nn.Module, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Return the layer's output with its update.

        Args:
            module: PEFT's layer.
            active_adapter: name of the adapter.
            x: input of the layer.
            result: output of the layer without an adapter, float (..., m) or (B, m, H, W).
        """
        up, scale = module.lora_B[active_adapter], module.scaling[active_adapter]
        inner = _product(module.lora_A[active_adapter], module.lora_dropout[active_adapter](x))
        inner = self.dropout(inner, module)
        if scale != 1:
            inner = inner * scale
        if isinstance(up, nn.Linear) and inner.dtype == result.dtype:
            weight = _weight(up, inner)
            return torch.addmm(result.flatten(0, -2), inner.flatten(0, -2), weight.T).view_as(result)
        return result + _product(up, inner)


def _product(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    weight = _weight(layer, x)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _weight(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """Return the weight in the type of x; autocast chooses one itself."""
    if layer.weight.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return layer.weight
    return getattr(layer, "cast", layer.weight).to(x.dtype)


class CastAhead:
    """Casts all weights of an adapter in one operation, before its model uses them, and their gradients in another.

    Each operation takes the processor some time to give to a GPU, so many small ones cost more than their arithmetic.
    Activations that are computed again in the backward pass cast weights one by one again.

    Args:
        model: frozen model with the adapter, whose calls it precedes.
        layers: A and B of each adapted layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        model.register_forward_pre_hook(self._cast)
        model.register_forward_hook(self._forget, always_call=True)

    def _cast(self, model: nn.Module, _: tuple) -> None:
        if torch.compiler.is_compiling():  # torch.compile joins the casts itself
            return
        frozen, first = next(model.parameters()), self.layers[0].weight
        switched_off = not first.requires_grad
        if switched_off or frozen.dtype == first.dtype or torch.is_autocast_enabled(frozen.device.type):
            return
        cast = _Cast.apply(frozen.dtype, *(layer.weight for layer in self.layers))
        for layer, weight in zip(self.layers, cast, strict=True):
            layer.cast = weight

    def _forget(self, *_: Any) -> None:
        if not torch.compiler.is_compiling():
            for layer in self.layers:
                layer.__dict__.pop("cast", None)


class _Cast(torch.autograd.Function):
    """Casts tensors, and their gradients back."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors in another type."""
        ctx.set_materialize_grads(False)
        ctx.dtype = tensors[0].dtype
        return tuple(_copies(tensors, dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients in the tensors' own type; None stays None."""
        copies = iter(_copies([one for one in gradients if one is not None], ctx.dtype))
        return None, *(None if one is None else next(copies) for one in gradients)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    copies = [torch.empty_like(one, dtype=dtype) for one in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return copies
