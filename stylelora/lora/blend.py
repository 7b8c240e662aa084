"""Blend adapters layer by layer, for a UNet or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from stylelora.lora.compose import METHODS, merged
from stylelora.lora.factors import Factors
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.mix import BlendOptions, MixSpec, Part
from stylelora.lora.read import Adapter
from stylelora.records import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

#: The name of a method in weight space.
Method = Literal[tuple(METHODS)]


def blend(
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    method: Method = "sum",
    options: BlendOptions = BlendOptions(),
) -> dict[str, Factors]:
    """Blend adapters layer by layer; a layer that only some have is blended from those.

    Args:
        adapters: adapters of one base; names must differ.
        weights: one per adapter, 0 or more.
        method: see `compose`.
        options: options of the methods.

    Returns:
        update of each layer; none if all weights are 0.

    Raises:
        InputError: if weights or options are invalid, or the adapters were made for bases of different shapes.
    """
    mix = MixSpec.of([adapter.name for adapter in adapters], weights)
    options.check()
    used = {adapter.name: adapter for adapter in adapters if adapter.name in mix.names}
    shares = dict(zip(mix.names, mix.shares, strict=True))
    updates = {}
    for layer in dict.fromkeys(layer for adapter in used.values() for layer in adapter.layers):
        having = {name: adapter for name, adapter in used.items() if layer in adapter.layers}
        shapes = {(len(one.layers[layer].up), one.inputs[layer]) for one in having.values()}
        if len(shapes) > 1:
            raise InputError(f"{' and '.join(having)} differ in the shape of {layer}; blend adapters of the same base")
        parts = [Part(name, shares[name], adapter.layers[layer]) for name, adapter in having.items()]
        updates[layer] = merged(parts, layer, method, options).scaled(mix.strength)
    return updates


def check_fit(unet: UNet2DConditionModel, updates: Mapping[str, Factors]) -> dict[str, nn.Parameter]:
    """Return the UNet's weight of each layer that has an update.

    Raises:
        InputError: if an update does not fit this UNet.
    """
    modules = adaptable_modules(unet)
    for layer, update in updates.items():
        shape = modules[layer].weight.flatten(1).shape if layer in modules else None
        grouped = layer in modules and getattr(modules[layer], "groups", 1) > 1
        if grouped or shape != (len(update.up), update.down.shape[1]):
            raise InputError(f"the adapters do not fit this base: {layer} differs; use the base they were made for")
    return {layer: modules[layer].weight for layer in updates}


@contextmanager
def added(unet: UNet2DConditionModel, updates: Mapping[str, Factors]) -> Iterator[None]:
    """Run the block with updates added to the UNet's weights, then restore the weights exactly.

    Args:
        unet: UNet without adapters.
        updates: updates by full name of the layer.

    Raises:
        InputError: if an update does not fit this UNet.
    """
    weights = check_fit(unet, updates)
    before = {layer: weight.data for layer, weight in weights.items()}
    try:
        for layer, weight in weights.items():
            update = updates[layer]
            delta = update.up.to(weight.device) @ update.down.to(weight.device)
            weight.data = (weight.data + delta.view(weight.shape)).to(weight.dtype)
        yield
    finally:
        for layer, weight in weights.items():
            weight.data = before[layer]


def as_state(updates: Mapping[str, Factors], inputs: Mapping[str, Sequence[int]]) -> tuple[dict[str, Tensor], int]:
    """Return weights named as in an adapter file, and the rank that all layers are zero-padded to.

    Args:
        updates: updates by layer, scaled for a file with alpha = rank.
        inputs: see `Adapter`.
    """
    rank = max(update.up.shape[1] for update in updates.values())
    state = {}
    for layer, update in updates.items():
        missing = rank - update.up.shape[1]
        kernel = inputs[layer]
        down = torch.cat([update.down, update.down.new_zeros(missing, update.down.shape[1])])
        up = torch.cat([update.up, update.up.new_zeros(len(update.up), missing)], 1)
        state[f"unet.{layer}.lora_A.weight"] = down.view(rank, *kernel)
        state[f"unet.{layer}.lora_B.weight"] = up.view(*up.shape, *[1] * (len(kernel) - 1))
    return state, rank
