"""Names of LoRA layers and tensors, as the programs that write them spell them.

Inside this project a layer of the UNet has diffusers' name, `down_blocks.0.attentions.0.proj_in`, and a layer of the
text encoder the name that other programs know, `text_encoder.text_model.encoder.layers.0.mlp.fc1`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")

#: The models that a LoRA changes, by diffusers' names, in the order of `parts`.
MODELS = ("unet", "text_encoder")
#: Begins the name of every layer of the text encoder.
TEXT_ENCODER = "text_encoder."
# transformers 5 has no `text_model` in CLIPTextModel; names in files keep it.
_WRAPPER = "text_model."

_ATTENTION = [f"{attn}.{to}" for attn in ("attn1", "attn2") for to in ("to_q", "to_k", "to_v", "to_out.0")]
_TRANSFORMER = ["proj_in", "proj_out", *(f"transformer_blocks.0.{name}" for name in (*_ATTENTION, "ff.net.0.proj"))]
_TRANSFORMER.append("transformer_blocks.0.ff.net.2")
#: Layer of a residual block -> its name in Stable Diffusion's own code.
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_TEXT = [f"self_attn.{to}_proj" for to in "qkv"] + ["self_attn.out_proj", "mlp.fc1", "mlp.fc2"]
_TEXT_LAYERS = 32  # CLIP ViT-L has 12, SD 2's OpenCLIP 23

# What stands before a layer's name; the first match counts, and "" is the UNet of `save_lora_adapter` and PEFT.
_PREFIXES = {
    "lora_unet_": "",
    "lora_te_": TEXT_ENCODER,
    "lora_te1_": TEXT_ENCODER,
    "lycoris_": "",
    "base_model.model.": "",
    "model.diffusion_model.": "",
    "diffusion_model.": "",
    "text_encoders.clip_l.transformer.": TEXT_ENCODER,
    "text_encoders.clip_h.transformer.": TEXT_ENCODER,
    "unet.": "",
    "text_encoder.": TEXT_ENCODER,
    "": "",
}
#: The end of a tensor's name -> what it is.
_TENSORS = {
    r"[._]lora(\.|_linear_layer\.|_)down(\.default)?\.weight": "down",
    r"[._]lora(\.|_linear_layer\.|_)up(\.default)?\.weight": "up",
    r"\.lora_A(\.\w+)?\.weight": "down",
    r"\.lora_B(\.\w+)?\.weight": "up",
    r"\.lora_mid\.weight": "mid",
    r"\.alpha": "alpha",
    r"\.(?P<own>hada_(w[12]_[ab]|t[12])|lokr_(w[12](_[ab])?|t2))": "",
}


def split_key(key: str) -> tuple[str, str] | None:
    """Return a key's layer as the file spells it, and which tensor of it this is; None for a key of something else.

    Tensors are down, up, mid and alpha, and those of LoHa and LoKr (hada_w1_a, lokr_w1, ...).
    """
    for ending, tensor in _TENSORS.items():
        if match := re.fullmatch(rf"(.+?){ending}", key):
            return match[1], tensor or match["own"]
    return None


def layer_of(spelled: str) -> str | None:
    """Return the name that a layer has here; None for a layer that Stable Diffusion 1.x and 2.x do not have."""
    prefix = next(prefix for prefix in _PREFIXES if spelled.startswith(prefix))
    name = spelled.removeprefix(prefix)
    if ".processor." in name:  # diffusers before 0.18: attn1.processor.to_q_lora
        name = re.sub(r"\.processor\.(\w+)", lambda match: "." + _old(match[1]), name)
    part = TEXT_ENCODER if name.startswith((_WRAPPER, "encoder.layers.")) else _PREFIXES[prefix]
    if part == TEXT_ENCODER:
        name = re.sub(r"self_attn\.to_(\w+)", lambda match: f"self_attn.{match[1]}_proj", name)
        return _text_layers().get(name)
    return _unet_layers().get(name)


def module_name(layer: str, modules: Container[str]) -> str:
    """Return the name under which a model holds a layer; `modules` are the names that it has."""
    name = layer.removeprefix(TEXT_ENCODER)
    return name if name in modules else name.removeprefix(_WRAPPER)


def text_name(module: str) -> str:
    """Return the name in files, without `TEXT_ENCODER`, of a module of the text encoder."""
    return f"{_WRAPPER}{module.removeprefix(_WRAPPER)}"


def is_text(layer: str) -> bool:
    """Return whether a layer belongs to the text encoder."""
    return layer.startswith(TEXT_ENCODER)


def parts(layers: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """Return what belongs to the UNet, and what belongs to the text encoder."""
    unet = {layer: value for layer, value in layers.items() if not is_text(layer)}
    return unet, {layer: value for layer, value in layers.items() if is_text(layer)}


def kohya_name(layer: str) -> str:
    """Return a layer's name in kohya's files, without the tensor."""
    name = layer.removeprefix(TEXT_ENCODER).replace(".", "_")
    return f"lora_te_{name}" if is_text(layer) else f"lora_unet_{name}"


def diffusers_name(layer: str) -> str:
    """Return a layer's name in diffusers' files, without the tensor."""
    return layer if is_text(layer) else f"unet.{layer}"


def peft_name(layer: str) -> str:
    """Return a layer's name in a PEFT folder of its model, as transformers 5 names modules, without the tensor."""
    return f"base_model.model.{layer.removeprefix(TEXT_ENCODER).removeprefix(_WRAPPER)}"


def _old(name: str) -> str:
    return "to_out.0" if name == "to_out" else name


def _all_unet() -> Iterator[tuple[str, str]]:
    """Yield every layer's name, and that of Stable Diffusion's own code, which counts two layers a block."""
    yield from _OUTSIDE.items()
    for block in range(4):
        for index in range(3):
            for side, first in (("down", 1), ("up", 0)):
                place = f"{'input' if side == 'down' else 'output'}_blocks.{3 * block + index + first}"
                yield from ((f"{side}_blocks.{block}.attentions.{index}.{n}", f"{place}.1.{n}") for n in _TRANSFORMER)
                yield from (
                    (f"{side}_blocks.{block}.resnets.{index}.{name}", f"{place}.0.{ldm}")
                    for name, ldm in _RESNET.items()
                )
        yield f"down_blocks.{block}.downsamplers.0.conv", f"input_blocks.{3 * block + 3}.0.op"
        yield f"up_blocks.{block}.upsamplers.0.conv", f"output_blocks.{3 * block + 2}.{2 if block else 1}.conv"
    yield from ((f"mid_block.attentions.0.{name}", f"middle_block.1.{name}") for name in _TRANSFORMER)
    for index in range(2):
        yield from (
            (f"mid_block.resnets.{index}.{name}", f"middle_block.{2 * index}.{ldm}") for name, ldm in _RESNET.items()
        )


@functools.cache
def _unet_layers() -> dict[str, str]:
    """Return layers by every spelling: with points or underscores, as diffusers or as Stable Diffusion's own code."""
    return {form: name for name, ldm in _all_unet() for spelling in (name, ldm) for form in (spelling, _flat(spelling))}


@functools.cache
def _text_layers() -> dict[str, str]:
    """Return layers by every spelling: with points or underscores, with or without `text_model`."""
    names = [f"encoder.layers.{index}.{name}" for index in range(_TEXT_LAYERS) for name in _TEXT]
    return {
        form: f"{TEXT_ENCODER}{_WRAPPER}{name}"
        for name in names
        for spelling in (name, _WRAPPER + name)
        for form in (spelling, _flat(spelling))
    }


def _flat(name: str) -> str:
    return name.replace(".", "_")
