"""Read LoRA files, with diffusers' or kohya's key names, as one update per layer of the UNet."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from stylelora.lora.check_file import CONFIG, check_alpha, check_header, check_layers, read_file, some
from stylelora.lora.factors import Factors
from stylelora.records import InputError

# Every layer of SD 1.5's UNet that can carry a LoRA; SD 2's and the mini base's are named alike.
_LAYER = re.compile(
    r"conv_in|conv_out|time_embedding\.linear_[12]|((down|up)_blocks\.\d+|mid_block)\.("
    r"attentions\.\d+\.(proj_in|proj_out|transformer_blocks\.0\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)))|"
    r"resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|(down|up)samplers\.0\.conv)"
)
_KOHYA = re.compile(r"lora_unet_\w+\.(lora_(down|up)\.weight|alpha)")
# The first match is reported, so put problems without a fix before those with one.
_REFUSED = {
    r"^(text_encoder_2|lora_te2)": "was made for another model, such as SDXL, as its second text encoder shows",
    r"\b(hada|lokr|oft|boft|ia3)_|\.diff(_b)?$": "is a LoHa, LoKr or the like, and only plain LoRAs can be blended",
    r"dora_scale|lora_magnitude_vector": "is a DoRA, whose strength depends on the base's weights; give a plain LoRA",
    r"\blora_mid\b": "is a LoCon with three factors per layer (lora_mid); train it without Tucker decomposition",
    r"lora.*\.bias$": "changes biases, too, which a blend cannot; train it without lora_bias",
    r"^(text_encoder|lora_te)": "has text-encoder layers, and only the UNet's are blended; train or export these alone",
}
# LoRA initialisations that change the base's weights, so that the file alone does not determine the update.
_REBASED = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class Adapter:
    """A LoRA as one update per layer.

    Attributes:
        name: the file's, without suffix, or its folder's if that is `adapter`.
        layers: update of each layer by the layer's full name; of a convolution over its unrolled kernel.
        inputs: shape of a layer's input weights: (n,), or (channels, height, width) of a convolution's kernel.
        sha256: of the file.
        metadata: metadata of the file's header.
    """

    name: str
    layers: dict[str, Factors]
    inputs: dict[str, tuple[int, ...]]
    sha256: str
    metadata: dict[str, str]


def read_adapter(path: Path | str) -> Adapter:
    """Read a LoRA of a Stable Diffusion UNet, of any float dtype and with a rank and alpha per layer.

    Diffusers' files have alpha in the header, with PEFT's `use_rslora` (scale alpha / sqrt(rank), Kalajdzievski 2023),
    `rank_pattern` and `alpha_pattern`; kohya's have a tensor of it per layer, and alpha = rank where that is missing.

    Args:
        path: safetensors file.

    Returns:
        fp32 updates with their scale folded in.

    Raises:
        InputError: the file is missing, is no safetensors file, does not say its alpha, or holds something else than
            finite weights of complete LoRA layers of such a UNet; nothing is dropped silently.
    """
    path = Path(path)
    state, header = read_file(path)
    for pattern, problem in _REFUSED.items():
        if found := [key for key in state if re.search(pattern, key)]:
            raise InputError(f"{path} {problem} (it holds {some(found)}).")
    if broken := [key for key, value in state.items() if not torch.isfinite(value.float()).all()]:
        raise InputError(f"{path} has NaN or infinite weights in {some(broken)}; its training failed.")
    if any(key.startswith("lora_unet_") for key in state):
        state, scales = _from_kohya(state, path)
    else:
        state, scales = _from_diffusers(state, header, path)
    layers, inputs = {}, {}
    for layer, scale in scales.items():
        down, up = (state[f"unet.{layer}.lora_{factor}.weight"].float() for factor in "AB")
        layers[layer] = Factors(up.flatten(1) * scale, down.flatten(1))
        inputs[layer] = tuple(down.shape[1:])
    name = path.resolve().parent.name if path.stem == "adapter" else path.stem
    notes = {key: value for key, value in header.items() if key not in ("format", CONFIG)}
    return Adapter(name, layers, inputs, hashlib.sha256(path.read_bytes()).hexdigest(), notes)


def read_adapters(paths: Sequence[Path | str]) -> list[Adapter]:
    """Read LoRA files; if two have the same name, the folder's name is put in front.

    Raises:
        InputError: as `read_adapter`.
    """
    adapters = [read_adapter(path) for path in paths]
    counts = Counter(adapter.name for adapter in adapters)
    named = []
    for adapter, path in zip(adapters, paths, strict=True):
        folder = Path(path).resolve().parent
        folder = folder.parent if folder.name == adapter.name else folder
        named.append(replace(adapter, name=f"{folder.name}/{adapter.name}") if counts[adapter.name] > 1 else adapter)
    return named


def distinct(triggers: Sequence[str]) -> list[str]:
    """Return the distinct trigger words; a merged file has those of its sources, joined by commas."""
    return list(dict.fromkeys(word.strip() for trigger in triggers for word in trigger.split(",")))


def described(names: Iterable[str], weights: Iterable[float]) -> str:
    """Describe a blend, such as `watercolor 0.6 + cartoon 0.4`, without adapters of weight 0."""
    return " + ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True) if weight)


def _from_kohya(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the weights under diffusers' names, and the scale of each layer."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from diffusers.utils import convert_unet_state_dict_to_peft

    if strangers := [key for key in state if not _KOHYA.fullmatch(key)]:
        raise InputError(f"{path} holds keys that are not LoRA weights of a UNet: {some(strangers)}.")
    names = list(dict.fromkeys(key.split(".")[0] for key in state))
    for name in names:
        if not {f"{name}.lora_down.weight", f"{name}.lora_up.weight"} <= state.keys():
            raise InputError(f"{path} lacks lora_down or lora_up of {name}.")
        if f"{name}.alpha" in state and state[f"{name}.alpha"].numel() != 1:
            raise InputError(f"{path} has more than one alpha in {name}.")
    # Names only: for layers without an alpha, diffusers uses the most common of the others instead of the rank.
    converted = convert_unet_state_dict_to_peft(StableDiffusionLoraLoaderMixin.lora_state_dict(dict(state))[0])
    ranks = check_layers(converted, str(path))
    kohya = {layer: f"lora_unet_{layer.replace('.', '_')}" for layer in ranks if _LAYER.fullmatch(layer)}
    _refuse_other_models(set(names).difference(kohya.values()), path)
    scales = {}
    for layer, rank in ranks.items():
        alpha = state.get(f"{kohya[layer]}.alpha")
        scales[layer] = 1.0 if alpha is None else check_alpha(float(alpha), str(path)) / rank
    return converted, scales


def _from_diffusers(
    state: Mapping[str, Tensor], header: Mapping[str, str], path: Path
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the weights under PEFT's names, which older files lack, and the scale of each layer."""
    from diffusers.utils import convert_unet_state_dict_to_peft

    converted = convert_unet_state_dict_to_peft(state)
    if len(converted) < len(state):
        raise InputError(f"{path} holds a layer under two names.")
    ranks = check_layers(converted, str(path))
    _refuse_other_models([layer for layer in ranks if not _LAYER.fullmatch(layer)], path)
    config = check_header(header, str(path))
    variants = [name for name, value in config.items() if value and re.match("use_(?!rslora)|lora_bias|kasa", name)]
    start = config.get("init_lora_weights")
    variants += [start] if isinstance(start, str) and start.startswith(_REBASED) else []
    if variants:
        raise InputError(f"{path} uses {', '.join(variants)}, which is not supported.")
    scales = {}
    for layer, rank in ranks.items():
        said = _of_layer(config, "rank_pattern", layer, path) or config.get("r", rank)
        if said != rank:
            raise InputError(f"{path} says rank {said}, but its weights have rank {rank} in {layer}.")
        alpha = _of_layer(config, "alpha_pattern", layer, path)
        alpha = check_alpha(config["lora_alpha"] if alpha is None else alpha, str(path))
        scales[layer] = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return converted, scales


def _of_layer(config: Mapping[str, object], pattern: str, layer: str, path: Path) -> object:
    """Return the value of a PEFT pattern for a layer; None if no pattern matches."""
    from peft.utils.other import get_pattern_key

    patterns = config.get(pattern) or {}
    try:
        return patterns.get(get_pattern_key(patterns, layer))
    except (AttributeError, TypeError, re.error) as error:
        raise InputError(f"{path} has an unreadable {pattern} ({error}).") from error


def _refuse_other_models(layers: Iterable[str], path: Path) -> None:
    if layers := sorted(layers):
        raise InputError(f"{path} was made for another model, such as SDXL; SD 1.5's UNet has no {some(layers)}.")
