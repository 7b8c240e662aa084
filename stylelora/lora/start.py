"""Where a LoRA's training starts: at an update of 0, or at the base's largest singular values."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from stylelora.records import InputError


def start_at_zero(layers: Sequence[nn.Module], adapter: str, seed: int) -> None:
    """Draw A as PEFT does, and set B to 0: values depend on the seed and on the shapes alone."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        down, up = layer.lora_A[adapter], layer.lora_B[adapter]
        values = torch.empty(down.weight.shape, dtype=torch.float32, device="cpu")
        nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)  # as in PEFT, before any rounding
        down.weight.data = values.to(up.weight.device)
        up.weight.data = torch.zeros_like(up.weight, dtype=torch.float32)


def start_at_principal(layers: Mapping[str, nn.Module], adapter: str) -> None:
    """Start with scale * B A the best approximation of the base's weights of this rank (PiSSA, Meng et al. 2024).

    PEFT subtracts it from the weights. Here they stay: each layer subtracts what the initial factors give, which is
    the same sum, and so the base is the base bit for bit while adapters are disabled.

    Raises:
        InputError: the rank is higher than that of a layer's weights.
    """
    for name, layer in layers.items():
        weight, rank = layer.get_base_layer().weight, layer.r[adapter]
        if rank > min(weight.flatten(1).shape):
            raise InputError(
                f"lora.init_lora_weights pissa cannot start at rank {rank} in {name}, whose weights have rank "
                f"{min(weight.flatten(1).shape)} at most; lower the rank"
            )
        u, s, vh = torch.linalg.svd(weight.detach().float().flatten(1), full_matrices=False)
        root = (s[:rank] / layer.scaling[adapter]).sqrt()
        down, up = layer.lora_A[adapter], layer.lora_B[adapter]
        down.weight.data = (root[:, None] * vh[:rank]).reshape(down.weight.shape).contiguous()
        up.weight.data = (u[:, :rank] * root).reshape(up.weight.shape).contiguous()
        for what, one in (("initial_A", down), ("initial_B", up)):
            layer.register_buffer(what, one.weight.detach().clone())
        layer.register_forward_hook(functools.partial(_without_initial, adapter))


def _without_initial(adapter: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
    if layer.disable_adapters:
        return None
    inner = inputs[0].to(layer.initial_A.dtype)
    for factor, start in ((layer.lora_A[adapter], layer.initial_A), (layer.lora_B[adapter], layer.initial_B)):
        inner = torch.func.functional_call(factor, {"weight": start}, (inner,))
    return output - layer.scaling[adapter] * inner.to(output.dtype)
