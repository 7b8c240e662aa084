"""Is the adapter that a training leaves one? Its file is read again and tried on the base."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylelora.base.conditioning import Conditioning, predict
from stylelora.lora.factors import Layer
from stylelora.lora.inject import adapted_modules, adapter_disabled
from stylelora.lora.lora_file import read_lora
from stylelora.lora.names import is_text, module_name
from stylelora.records import InputError

SIDE = 8  # of the latents; the smallest that Stable Diffusion's UNet takes
TIMESTEPS = (250, 750)


@torch.no_grad()
def check_adapters(files: list[Path], unet: nn.Module) -> None:
    """Try adapter files: each must be readable, finite and not zero, and must change what the UNet predicts.

    Args:
        files: LoRA files of one training.
        unet: the UNet that they were trained on, with its adapter, whose weights play no part.

    Raises:
        InputError: if there is no file, or one is no use.
    """
    if not files:
        raise InputError("the training has ended, but no adapter was saved")
    drawn = torch.Generator().manual_seed(0)
    latents = torch.randn((len(TIMESTEPS), unet.config.in_channels, SIDE, SIDE), generator=drawn).to(unet.device)
    texts = torch.randn((len(TIMESTEPS), 77, unet.config.cross_attention_dim), generator=drawn).to(unet.device)
    given = latents, torch.tensor(TIMESTEPS, device=unet.device), Conditioning(texts)
    with adapter_disabled(unet):
        before = predict(unet, *given)
        for file in files:
            layers = read_lora(file).layers  # which refuses numbers that are not finite
            if not any(one.down.any() and one.up.any() for one in layers.values()):
                raise InputError(f"{file} is zero everywhere: nothing was learned; train longer, or at a higher rate")
            with _applied(unet, {name: one for name, one in layers.items() if not is_text(name)}):
                after = predict(unet, *given)
            if not torch.isfinite(after).all():
                raise InputError(f"with {file} the base predicts numbers that are not finite, so it is no use")
            if torch.equal(after, before) and not any(map(is_text, layers)):
                raise InputError(f"{file} changes nothing that the base predicts; train longer, or at a higher rate")


@contextlib.contextmanager
def _applied(unet: nn.Module, layers: Mapping[str, Layer]) -> Iterator[None]:
    """Add the updates of a file to the outputs of the base's layers, without building them."""
    modules = adapted_modules(unet)
    places = {name: modules.get(module_name(name, modules)) for name in layers}
    if lost := [name for name, module in places.items() if module is None]:
        raise InputError(f"the saved adapter has {lost[0]}, which was not trained")
    hooks = [module.base_layer.register_forward_hook(_adding(layers[name])) for name, module in places.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _adding(layer: Layer) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        down, up = (one.to(output.device, torch.float32) for one in (layer.down, layer.up))
        x = inputs[0].float()
        if isinstance(module, nn.Conv2d):
            inner = functional.conv2d(x, down, None, module.stride, module.padding, module.dilation)
            change = functional.conv2d(inner, up)
        else:
            change = functional.linear(functional.linear(x, down), up)
        return output + (change * (layer.alpha / layer.rank)).to(output.dtype)

    return hook
