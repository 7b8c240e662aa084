"""Several adapters on one UNet at once; each part of a batch and each layer can use a different one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylelora.lora.blend import check_fit
from stylelora.lora.factors import Factors

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

#: What is used: the number of an adapter, or None for the base alone; or a rule that says so for each layer's name.
Choice = int | None | Callable[[str], int | None]


class Router:
    """Selects the adapters to use. Created by `routed`.

    Attributes:
        parts: the adapters that equal parts of the batch use, in order.
    """

    def __init__(self) -> None:
        self.parts: Sequence[Choice] = (None,)


@contextmanager
def routed(unet: UNet2DConditionModel, adapters: Sequence[Mapping[str, Factors]]) -> Iterator[Router]:
    """Run the block with adapters added to the UNet's layers; its modules and weights are never changed.

    Args:
        unet: UNet without adapters.
        adapters: updates by full name of the layer.

    Yields:
        the router that selects adapters; initially none is used.

    Raises:
        InputError: if an adapter does not fit this UNet.
    """
    router = Router()
    layers: dict[str, dict[int, Factors]] = {}
    for number, updates in enumerate(adapters):
        modules = check_fit(unet, updates)
        for layer, update in updates.items():
            device, dtype = modules[layer].weight.device, modules[layer].weight.dtype
            layers.setdefault(layer, {})[number] = Factors(update.up.to(device, dtype), update.down.to(device, dtype))
    modules = dict(unet.named_modules())
    hooks = [modules[layer].register_forward_hook(_hook(router, layer, updates)) for layer, updates in layers.items()]
    try:
        yield router
    finally:
        for hook in hooks:
            hook.remove()


def _hook(router: Router, layer: str, updates: Mapping[int, Factors]) -> Callable:
    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        chosen = [updates.get(part(layer) if callable(part) else part) for part in router.parts]
        if not any(chosen):
            return output
        pieces = zip(chosen, inputs[0].chunk(len(chosen)), output.chunk(len(chosen)), strict=True)
        return torch.cat([y if update is None else y + _through(module, update, x) for update, x, y in pieces])

    return add


def _through(module: nn.Module, update: Factors, x: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return F.linear(F.linear(x, update.down), update.up)
    down = update.down.view(-1, *module.weight.shape[1:])
    middle = module._conv_forward(x, down, None)  # with the module's stride, padding and padding mode
    return F.conv2d(middle, update.up[:, :, None, None])
