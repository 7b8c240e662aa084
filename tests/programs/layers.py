"""The layers of SD 1.5 under their canonical names, random LoRAs of them, and what every restated program shares.

Each module of this folder restates, from another program's source, how that program names and applies a LoRA to SD 1.5,
as two functions that share no code with `stylelora`:

    apply(tensors, header, shapes) -> ({layer: change of its weight at strength 1}, keys left out)
    write(layers, ...) -> (tensors, header)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tests.tiny_sd import SD15_UNET, TINY_UNET

#: Layer of the UNet in diffusers and in the single-file checkpoint: ComfyUI's `unet_to_diffusers` for SD 1.5.
LDM = dict(line.split() for line in (Path(__file__).parents[1] / "data" / "sd15_layers.txt").read_text().splitlines())
TEXT = "text_encoder.text_model.encoder.layers"
TEXT_LAYERS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")


class Refused(Exception):
    """The program does not load the file."""


@dataclass(frozen=True)
class Layer:
    """One layer of a LoRA.

    Attributes:
        down: (rank, in) or (rank, channels, height, width).
        up: (out, rank) or (out, rank, 1, 1).
        alpha: its strength is alpha / rank.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def dense(self):
        """The change of the weight, float32, flattened from its second axis on."""
        return self.up.float().flatten(1) @ self.down.float().flatten(1) * (self.alpha / len(self.down))


def is_text(layer):
    return layer.startswith("text_encoder.")


#: The tiny checkpoint with a third level as wide as SD 1.5's is to its second: else one shortcut would be missing.
SMALL_UNET = TINY_UNET | {"block_out_channels": (16, 32, 64, 64)}


def shapes(text_layers=2, width=32, unet=SMALL_UNET, **changes):
    """Shape of the weight of every Linear and Conv2d of the UNet, and of the text encoder's transformer."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel(**unet | changes)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    found = {name: tuple(module.weight.shape) for name, module in model.named_modules() if isinstance(module, kinds)}
    for index in range(text_layers):
        for name in TEXT_LAYERS:
            into, out = {"mlp.fc1": (width, 2 * width), "mlp.fc2": (2 * width, width)}.get(name, (width, width))
            found[f"{TEXT}.{index}.{name}"] = (out, into)
    return found


def real_shapes():
    """The same of SD 1.5 itself."""
    return shapes(text_layers=12, width=768, unet=SD15_UNET)


def random_lora(of, dtype=torch.float32, seed=7, ranks=(2, 3, 4), alphas=(1.0, 2.0, 4.0, 0.5)):
    """A LoRA of these layers whose rank and alpha differ from layer to layer, and from each other."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for index, (layer, shape) in enumerate(of.items()):
        rank, ones = ranks[index % len(ranks)], [1] * (len(shape) - 2)
        down = torch.randn(rank, *shape[1:], generator=generator) / torch.tensor(shape[1:]).prod() ** 0.5
        up = 0.1 * torch.randn(shape[0], rank, *ones, generator=generator)
        made[layer] = Layer(down.to(dtype), up.to(dtype), alphas[index % len(alphas)])
    return made


def every_kind(layers):
    """A part of a LoRA with each kind of layer: diffusers takes long where ranks differ in many."""
    some = (
        "down_blocks.0.attentions.0",
        "down_blocks.1.resnets.0",
        "up_blocks.2.upsamplers",
        "conv_",
        "time_embedding",
    )
    return {layer: parts for layer, parts in layers.items() if is_text(layer) or layer.startswith(some)}


def product(up, down, scale, shape):
    """The change of a weight from its factors, in the weight's shape, or None if it does not fit."""
    change = up.float().flatten(1) @ down.float().flatten(1) * scale
    return change.reshape(shape) if change.numel() == torch.Size(shape).numel() else None


def folded(layers):
    """The LoRA that a program sees which takes alpha to be the rank."""
    return {layer: Layer(parts.down, parts.up, float(len(parts.down))) for layer, parts in layers.items()}


def differences(updates, layers):
    """Largest difference to the LoRA of each layer, of layers left out their whole size; no layer may be invented."""
    assert updates.keys() <= layers.keys(), sorted(updates.keys() - layers.keys())[:3]
    wrong = {}
    for layer, parts in layers.items():
        change = updates[layer].flatten(1) if layer in updates else torch.zeros(1)
        wrong[layer] = float((change - parts.dense()).abs().max())
    return wrong
