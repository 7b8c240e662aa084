"""An adapter added to the base's weights while nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stylelora.lora.factors import Factors, added_to, stacked
from stylelora.lora.inject import ADAPTER, adapted_modules, adapter_disabled


@contextmanager
def folded(model: nn.Module) -> Iterator[None]:
    """Run the block with the adapter added to the base's weights, as `added` does, then restore them exactly.

    A UNet so costs what the base alone costs; predictions are the same up to rounding in float32. Where weights or
    products are in half precision, small updates would be lost in them, and the adapter stays beside the base.

    Args:
        model: UNet with an adapter; one that is switched off stays off.
    """
    layers = list(adapted_modules(model).values())
    weights = [layer.get_base_layer().weight for layer in layers]
    exact = all(one.dtype == torch.float32 and not torch.is_autocast_enabled(one.device.type) for one in weights)
    if not exact or any(layer.disable_adapters for layer in layers):
        yield
        return
    with torch.no_grad():
        updates = [_update(layer) for layer in layers]
    with added_to(weights, updates), adapter_disabled(model):
        yield


def _update(layer: nn.Module) -> Factors:
    def scaled(up: Tensor, down: Tensor) -> Factors:
        return Factors(up.flatten(1) * layer.scaling[ADAPTER], down.flatten(1))

    update = scaled(layer.lora_B[ADAPTER].weight, layer.lora_A[ADAPTER].weight)
    if not hasattr(layer, "initial_A"):
        return update
    return stacked([update, scaled(layer.initial_B, layer.initial_A).scaled(-1)])  # PiSSA
