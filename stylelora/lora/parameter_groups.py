"""Learning rates of their own: for B (LoRA+), and for the text encoder."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from stylelora.lora.inject import adapter_parameters
from stylelora.records import InputError


def optimizer_of(
    make: Callable[..., Optimizer],
    unet: nn.Module,
    text_encoder: nn.Module | None = None,
    lora_plus_ratio: float | None = None,
    text_encoder_rate: float | None = None,
) -> Optimizer:
    """Return an optimizer of the adapters, with a parameter group for each learning rate.

    Args:
        make: makes any optimizer of parameters, or of parameter groups.
        unet: UNet with an adapter.
        text_encoder: text encoder with an adapter; None: it is not trained.
        lora_plus_ratio: learning rate of B over that of A (LoRA+, Hayou et al. 2024); None: one for both.
        text_encoder_rate: learning rate of the text encoder's A; None: the optimizer's.

    Raises:
        InputError: the ratio is none, or the optimizer has no learning rate of its own for each group.
    """
    if lora_plus_ratio is not None and not (lora_plus_ratio > 0 and math.isfinite(lora_plus_ratio)):
        raise InputError(f"lora_plus_ratio is {lora_plus_ratio}; give a number above 0, such as 16, or null")
    models = [("unet", unet, None)] + [("text_encoder", text_encoder, text_encoder_rate)] * (text_encoder is not None)
    if lora_plus_ratio is None and all(rate is None for _, _, rate in models):
        return fused(make([parameter for _, model, _ in models for parameter in adapter_parameters(model)]))
    groups = []
    for model_name, model, rate in models:
        parts = {"A": [], "B": []}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parts["B" if ".lora_B." in name else "A"].append(parameter)
        if lora_plus_ratio is None:
            groups.append((model_name, parts["A"] + parts["B"], rate, 1.0))
        else:
            factors = (("A", 1.0), ("B", lora_plus_ratio))
            groups += [(f"{model_name}_{part}", parts[part], rate, factor) for part, factor in factors]
    optimizer = make([{"params": parameters, "name": name} for name, parameters, _, _ in groups])
    for group, (_, _, rate, factor) in zip(optimizer.param_groups, groups, strict=True):
        if group.get("lr") is None or "d" in group:  # Adafactor without a rate; Prodigy and D-Adaptation find one, d
            raise InputError(
                f"{type(optimizer).__name__} finds one learning rate for all weights itself; leave out "
                "model.lora_plus_ratio and model.text_encoder.learning_rate, or choose another optimizer"
            )
        group["lr"] = (group["lr"] if rate is None else rate) * factor
    return fused(optimizer)


def fused(optimizer: Optimizer) -> Optimizer:
    """Let PyTorch's Adam and AdamW update each group in one pass, unless they were told how; return the optimizer.

    Weights differ from those of its loop over tensors in the last bits. As a group's option, unlike as an argument, it
    leaves the scaling of gradients to GradScaler, so that they can be clipped.
    """
    for group in optimizer.param_groups if type(optimizer) in (Adam, AdamW) else ():
        if group["fused"] is None and group["foreach"] is None and not group["differentiable"]:
            group["fused"] = True
    return optimizer
