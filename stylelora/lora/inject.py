"""Add one LoRA adapter to a UNet, and disable it temporarily."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from stylelora.records import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

ADAPTER = "style"


def inject_lora(
    unet: UNet2DConditionModel, rank: int, alpha: float, dropout: float, target_modules: Sequence[str], seed: int
) -> list[str]:
    """Freeze the UNet and add a trainable LoRA adapter named `ADAPTER`.

    The adapter computes W x + (alpha / rank) B A x, with A from `seed` and B zero, so the UNet's output is unchanged
    until the first training step. Its weights are fp32 for any dtype of the UNet, and depend only on the seed, the rank
    and the targets: not on device, dtype or the state of the global random generator.

    Args:
        unet: base model without an adapter, changed in place.
        rank: rank of B A, at least 1.
        alpha: numerator of the scale, above 0.
        dropout: probability of dropping an entry of the adapter's input, in [0, 1).
        target_modules: names of `Linear` or `Conv2d` modules, whole or their last parts: "to_q", "to_out.0",
            "attn2.to_k".
        seed: seed of A's initial values.

    Returns:
        full names of the modules that got an adapter, in the UNet's order.

    Raises:
        InputError: a number is out of range, or a target matches no module.
        ValueError: the UNet already carries an adapter.
    """
    if rank < 1:
        raise InputError(f"LoRA rank must be at least 1, got {rank}.")
    if not (alpha > 0 and math.isfinite(alpha)):
        raise InputError(f"LoRA alpha must be a number above 0, got {alpha}.")
    if not 0 <= dropout < 1:
        raise InputError(f"LoRA dropout must be at least 0 and below 1, got {dropout}.")
    names = _match(unet, target_modules)

    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    device = next(unet.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # PEFT draws its own initial values
        unet.add_adapter(config, adapter_name=ADAPTER)
    unet.train(unet.training)  # new dropout layers start in training mode, whatever the UNet's mode

    generator = torch.Generator().manual_seed(seed)
    for name in names:
        layer = unet.get_submodule(name)
        down, up = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        values = torch.empty(down.weight.shape, dtype=torch.float32, device="cpu")
        nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)  # as in PEFT, before any rounding
        down.weight.data = values.to(device)
        up.weight.data = torch.zeros_like(up.weight, dtype=torch.float32)
    return names


@contextmanager
def adapter_disabled(unet: UNet2DConditionModel) -> Iterator[None]:
    """Run the block on the base model alone, then restore the adapters exactly.

    When PEFT re-enables adapters, it turns gradients on even if they were off before; here they are restored.

    Args:
        unet: model with or without adapters.

    Yields:
        nothing.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]
    disabled = [layer.disable_adapters for layer in layers]
    gradients = [(parameter, parameter.requires_grad) for parameter in unet.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, was_disabled in zip(layers, disabled, strict=True):
            layer.enable_adapters(not was_disabled)
        for parameter, required in gradients:
            parameter.requires_grad_(required)


def adapter_parameters(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """List the trainable parameters.

    Args:
        unet: model with an adapter.

    Returns:
        the trainable parameters, in the UNet's order.
    """
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def adaptable_modules(unet: nn.Module) -> dict[str, nn.Module]:
    """List the modules that can get a LoRA.

    Args:
        unet: model without an adapter.

    Returns:
        `Linear` and `Conv2d` modules by full name.

    Raises:
        ValueError: the UNet already carries an adapter, whose wrappers hide these names.
    """
    if getattr(unet, "peft_config", None):
        raise ValueError(f"the UNet already carries an adapter: {', '.join(unet.peft_config)}")
    return {name: module for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}


def _match(unet: nn.Module, target_modules: Sequence[str]) -> list[str]:
    """Return the full names of the modules that match the targets; unlike in PEFT, each target must match."""
    available = list(adaptable_modules(unet))
    matches = {target: {name for name in available if f".{name}".endswith(f".{target}")} for target in target_modules}
    unmatched = [target for target, names in matches.items() if not names]
    if unmatched or not matches:
        problem = f"no layer of this UNet matches {', '.join(unmatched)}" if unmatched else "no LoRA targets were given"
        raise InputError(f"{problem}; available: {', '.join(sorted({_suffix(name) for name in available}))}.")
    chosen = set().union(*matches.values())
    return [name for name in available if name in chosen]


def _suffix(name: str) -> str:
    """Return the last part of a module's name; two parts if the last is only an index, as in "to_out.0"."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])
