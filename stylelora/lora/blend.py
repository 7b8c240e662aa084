"""Blend adapters layer by layer, for a UNet, a text encoder or a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from torch import nn

from stylelora.lora.compose import METHODS, merged
from stylelora.lora.factors import Factors, Layer, added_to
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.mix import BlendOptions, MixSpec, Part
from stylelora.lora.names import module_name
from stylelora.lora.read import Adapter
from stylelora.records import InputError

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
        shapes = {(len(one.layers[layer].up), math.prod(one.inputs[layer])) for one in having.values()}
        if len(shapes) > 1:
            raise InputError(f"{' and '.join(having)} differ in the shape of {layer}; blend adapters of the same base")
        parts = [Part(name, shares[name], adapter.layers[layer]) for name, adapter in having.items()]
        updates[layer] = merged(parts, layer, method, options).scaled(mix.strength)
    return updates


def check_fit(
    model: nn.Module, updates: Mapping[str, Factors], misfit: str = "the adapters do not fit this base"
) -> dict[str, nn.Module]:
    """Return the model's module of each layer that has an update.

    Args:
        model: UNet, or text encoder.
        updates: updates of this model.
        misfit: what is wrong if one does not fit, for the error.

    Raises:
        InputError: if an update does not fit this model.
    """
    modules, fitting = adaptable_modules(model), {}
    for layer, update in updates.items():
        module = modules.get(module_name(layer, modules))
        shape = None if module is None else module.weight.flatten(1).shape
        if getattr(module, "groups", 1) > 1 or shape != (len(update.up), update.down.shape[1]):
            raise InputError(f"{misfit}: {layer} differs; give the base that it was trained on")
        fitting[layer] = module
    return fitting


def check_adapter(adapter: Adapter, unet: nn.Module, text_encoder: nn.Module, base: str) -> None:
    """Check that an adapter fits a base.

    Args:
        adapter: the adapter.
        unet: the base's.
        text_encoder: the base's.
        base: the base as it was given, for the error.

    Raises:
        InputError: if not; it says what the adapter was made for, if its file does.
    """
    made_for = adapter.metadata.get("base") or adapter.metadata.get("ss_sd_model_name")
    misfit = f"{adapter.name} does not fit the base {base}" + (f", but was trained on {made_for}" if made_for else "")
    check_fit(unet, adapter.unet, misfit)
    check_fit(text_encoder, adapter.text, misfit)


@contextmanager
def added(model: nn.Module, updates: Mapping[str, Factors]) -> Iterator[None]:
    """Run the block with updates added to a model's weights, then restore the weights exactly.

    Args:
        model: UNet or text encoder, without adapters.
        updates: updates of this model.

    Raises:
        InputError: if an update does not fit this model.
    """
    layers = check_fit(model, updates)
    with added_to([module.weight for module in layers.values()], [updates[layer] for layer in layers]):
        yield


def as_layers(updates: Mapping[str, Factors], adapters: Sequence[Adapter]) -> dict[str, Layer]:
    """Return blended updates as the tensors of a file, each layer with its own rank and alpha = rank.

    Args:
        updates: from `blend`.
        adapters: the adapters that were blended; they know the kernels of convolutions.
    """
    kernels: dict[str, tuple[int, ...]] = {}
    for adapter in adapters:
        for layer, kernel in adapter.inputs.items():  # some programs write 1 x 1 convolutions as matrices
            kernels[layer] = max(kernels.get(layer, ()), kernel, key=len)
    return {layer: Layer.of(update, kernels[layer]) for layer, update in updates.items()}
