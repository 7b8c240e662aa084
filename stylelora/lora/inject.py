"""Add one LoRA adapter to a UNet or a text encoder, and disable it temporarily."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from stylelora.lora.dropout import Dropout
from stylelora.lora.forward import CastAhead, Sum
from stylelora.lora.options import MOST_RANK, LoraOptions, matches, untied
from stylelora.lora.start import start_at_principal, start_at_zero
from stylelora.records import InputError

log = logging.getLogger(__name__)

ADAPTER = "style"


def inject_lora(
    model: nn.Module,
    rank: int,
    alpha: float | None,
    dropout: float,
    target_modules: Sequence[str],
    seed: int,
    options: LoraOptions = LoraOptions(),
    where: str = "UNet",
) -> list[str]:
    """Freeze a model and add a trainable LoRA adapter named `ADAPTER`.

    The adapter computes W x + (alpha / rank) B A x, with A from `seed` and B zero, so the output is unchanged until the
    first training step. Its weights are fp32 for any dtype of the model, and depend only on the seed, the ranks and the
    targets: not on device, dtype or the state of the global random generator.

    Args:
        model: UNet or text encoder without an adapter, changed in place.
        rank: rank of B A, at least 1.
        alpha: numerator of the scale, above 0; None: each layer's rank.
        dropout: probability of dropping an entry of the adapter's input, in [0, 1).
        target_modules: names of `Linear` or `Conv2d` modules, whole or their last parts: "to_q", "to_out.0",
            "attn2.to_k".
        seed: seed of A's initial values.
        options: further options, checked.
        where: what the model is called in errors.

    Returns:
        full names of the modules that got an adapter, in the model's order.

    Raises:
        InputError: a number is out of range, options contradict one another, or a target or pattern matches nothing.
        ValueError: the model already carries an adapter.
    """
    if rank < 1:
        raise InputError(f"LoRA rank must be at least 1, got {rank}.")
    if rank > MOST_RANK:
        raise InputError(f"LoRA rank {rank} is more than {MOST_RANK}, the width of any layer; give a lower rank.")
    if alpha is not None and not (alpha > 0 and math.isfinite(alpha)):
        raise InputError(f"LoRA alpha must be a number above 0, got {alpha}.")
    if not 0 <= dropout < 1:
        raise InputError(f"lora_dropout is {dropout}; give a share from 0 to below 1")
    options.check_beside(dropout, alpha)
    names = _match(model, target_modules, where)
    ranks = options.ranks(names, rank, alpha)
    if (scales := untied(ranks.values())) and not options.use_rslora:
        log.warning(
            "alpha is not the rank: the update of the %s is multiplied by %s, so another rank is another strength; "
            "without alpha it is multiplied by 1 at any rank",
            *(where, scales),
        )

    from peft import LoraConfig

    usual = rank if alpha is None else alpha
    config = LoraConfig(
        r=rank, lora_alpha=usual, lora_dropout=dropout, target_modules=names, use_rslora=options.use_rslora,
        rank_pattern={re.escape(name): one for name, (one, _) in ranks.items() if one != rank},
        alpha_pattern={re.escape(name): one for name, (_, one) in ranks.items() if one != usual},
    )  # fmt: skip
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # PEFT draws its own initial values
        model.add_adapter(config, adapter_name=ADAPTER)
    model.train(model.training)  # new dropout layers start in training mode, whatever the model's mode
    layers = adapted_modules(model)
    start_at_zero(list(layers.values()), ADAPTER, seed)
    if options.init_lora_weights == "pissa":
        start_at_principal(layers, ADAPTER)
    for layer in layers.values():
        layer.lora_variant[ADAPTER] = Sum(layer, Dropout(options.rank_dropout, options.module_dropout))
    CastAhead(model, [one[ADAPTER] for layer in layers.values() for one in (layer.lora_A, layer.lora_B)])
    return names


def adapted_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that carry an adapter, by name, in the model's order."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@contextmanager
def adapter_disabled(*models: nn.Module | None) -> Iterator[None]:
    """Run the block on the base model alone, then restore the adapters exactly.

    When PEFT re-enables adapters, it turns gradients on even if they were off before; here they are restored.

    Args:
        models: UNet, text encoder, or what holds them, with or without adapters; None: nothing.

    Yields:
        nothing.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    models = [model for model in models if model is not None]
    layers = [module for model in models for module in model.modules() if isinstance(module, BaseTunerLayer)]
    disabled = [layer.disable_adapters for layer in layers]
    gradients = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer, was_disabled in zip(layers, disabled, strict=True):
            layer.enable_adapters(not was_disabled)
        for parameter, required in gradients:
            parameter.requires_grad_(required)


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """List the trainable parameters.

    Args:
        model: UNet or text encoder with an adapter.

    Returns:
        the trainable parameters, in the model's order.
    """
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adaptable_modules(model: nn.Module) -> dict[str, nn.Module]:
    """List the modules that can get a LoRA.

    Args:
        model: UNet or text encoder without an adapter.

    Returns:
        `Linear` and `Conv2d` modules by full name.

    Raises:
        ValueError: the model already carries an adapter, whose wrappers hide these names.
    """
    if getattr(model, "peft_config", None):
        raise ValueError(f"the model already carries an adapter: {', '.join(model.peft_config)}")
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}


def _match(model: nn.Module, target_modules: Sequence[str], where: str) -> list[str]:
    """Return the full names of the modules that match the targets; unlike in PEFT, each target must match."""
    available = list(adaptable_modules(model))
    found = {target: {name for name in available if matches(name, target)} for target in target_modules}
    unmatched = [target for target, names in found.items() if not names]
    if unmatched or not found:
        lost = f"no layer of this {where} matches {', '.join(unmatched)}"
        problem = lost if unmatched else "no LoRA targets were given"
        raise InputError(f"{problem}; available: {', '.join(sorted({_suffix(name) for name in available}))}.")
    chosen = set().union(*found.values())
    return [name for name in available if name in chosen]


def _suffix(name: str) -> str:
    """Return the last part of a module's name; two parts if the last is only an index, as in "to_out.0"."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])
