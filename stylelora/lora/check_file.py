"""A LoRA file's tensors, layer by layer, each checked; and what the file says of alpha beside them."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylelora.base.strangers import PICKLED
from stylelora.lora.factors import Layer
from stylelora.lora.names import TEXT_ENCODER, is_text, module_name
from stylelora.lora.patterns import with_patterns
from stylelora.records import InputError
from stylelora.texts import check_is_file, parse_json

#: Where diffusers looks for the LoraConfig of the adapter; without it, it takes alpha = rank.
CONFIG = "lora_adapter_metadata"
# A LoRA of every layer in float32 has less than 2 GB at rank 128, and some 400 layers of at most 7 tensors.
MOST_BYTES, MOST_TENSORS = 2**34, 20_000
MOST_ALPHA = 1e30  # float32 ends at 3e38
# LoRA initialisations that change the base's weights, so that the file alone does not determine the update.
_REBASED = ("pissa", "olora", "corda", "loftq", "lora_ga")


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a safetensors file.

    Raises:
        InputError: the file is missing, or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if os.path.lexists(path):  # also of a link to nowhere
        check_is_file(path)
    else:
        if path.with_suffix(".bin").is_file():
            raise InputError(f"{path.parent} has only a pickle, {path.stem}.bin; save it as safetensors with PEFT.")
        near = difflib.get_close_matches(path.name, [one.name for one in path.parent.glob("*.safetensors")], 1)
        raise InputError(f"there is no adapter file {path}{f', did you mean {near[0]}?' if near else '.'}")
    if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
        raise InputError(f"{path} is a checkpoint of `fit`; give the .safetensors file in the folder above it.")
    if path.suffix in PICKLED:
        raise InputError(
            f"{path} is a pickle, which can run code when it is opened; save it as .safetensors with the program that "
            "made it."
        )
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path} has {size} bytes, more than any LoRA.")
        with safe_open(path, framework="pt", device="cpu") as file:
            if (count := len(file.keys())) > MOST_TENSORS:
                raise InputError(f"{path} has {count} tensors, more than any LoRA.")
            return {key: file.get_tensor(key) for key in file.keys()}, dict(sorted((file.metadata() or {}).items()))
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file, or is damaged ({error}).") from error


def layer_from(tensors: Mapping[str, Tensor], name: str, source: str) -> Layer:
    """Return a layer made of its tensors.

    Args:
        tensors: `down`, `up`, and `alpha` and `mid` where a file has them. With `mid` (Tucker decomposition), float
            (r, r, height, width), the update is up @ (mid @ down), which is a plain LoRA of the same rank. Without
            `alpha`, alpha is the rank.
        name: the layer's name in the file, for errors.
        source: the file; begins the error message.

    Raises:
        InputError: a tensor is missing, or shapes or alpha do not fit.
    """
    down, up = tensors.get("down"), tensors.get("up")
    if down is None or up is None or not (down.numel() and up.numel()):
        raise InputError(f"{source} lacks one of the two factors (lora_down, lora_up) of {name}, or it is empty.")
    if strange := {one.ndim for one in (down, up)} - {2, 4}:
        raise InputError(f"{source} has factors of {strange.pop()} dimensions in {name}; a LoRA's have 2, or 4.")
    if "mid" in tensors:
        down = _tucker(tensors["mid"], down, name, source)
    ranks = len(down), up.flatten(1).shape[1]  # also finds a kernel wider than 1 x 1 in lora_up
    if ranks[0] != ranks[1]:
        raise InputError(f"{source} has lora_down of rank {ranks[0]} and lora_up of rank {ranks[1]} in {name}.")
    if up.ndim != down.ndim:
        up = up.reshape(*up.shape[:2], *[1] * (down.ndim - 2))
    if "alpha" not in tensors:
        return Layer(down, up, float(ranks[0]))
    if tensors["alpha"].numel() != 1:
        raise InputError(f"{source} has more than one alpha in {name}.")
    return Layer(down, up, check_alpha(tensors["alpha"].item(), f"{source} ({name})"))


def _tucker(mid: Tensor, down: Tensor, name: str, source: str) -> Tensor:
    if mid.ndim != 4 or mid.shape[1] != len(down) or down[0].numel() != down.shape[1]:
        raise InputError(f"{source} has a lora_mid of shape {tuple(mid.shape)} in {name}, not as lora_down asks.")
    return torch.einsum("abhw,bc->achw", mid.float(), down.float().flatten(1))


def said_alpha(config: Mapping[str, Any] | None, layer: str, rank: int, source: str) -> float | None:
    """Return the alpha by which a layer's update is alpha / rank * up @ down, after PEFT's LoraConfig.

    Args:
        config: the LoraConfig as far as it is known, with `lora_alpha`; with `use_rslora` the scale is
            lora_alpha / sqrt(rank) (Kalajdzievski 2023); None: nothing is known.
        layer: name of the layer.
        rank: rank of its tensors.
        source: the file; begins the error message.

    Returns:
        None if nothing is known.

    Raises:
        InputError: the config contradicts the tensors, or is unreadable.
    """
    if config is None or config.get("lora_alpha") is None:
        return None
    said = _of_layer(config, "rank_pattern", layer) or config.get("r", rank)
    if said != rank:
        raise InputError(f"{source} says rank {said}, but its weights have rank {rank}.")
    alpha = _of_layer(config, "alpha_pattern", layer)
    alpha = check_alpha(config["lora_alpha"] if alpha is None else alpha, source)
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def configs_of(header: Mapping[str, str], source: str) -> dict[str, dict[str, Any]]:
    """Return PEFT's LoraConfig of the UNet ("") and of the text encoder (`TEXT_ENCODER`), as far as a header has them.

    Raises:
        InputError: the entry is unreadable, or describes something else than a plain LoRA.
    """
    config = parse_json(header.get(CONFIG, "{}"), f"{source}: the header entry {CONFIG}")
    if not isinstance(config, dict | None):
        raise InputError(f"{source} has an unreadable header entry {CONFIG} (a {type(config).__name__}).")
    config = config or {}
    found = {
        part: {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
        for part, prefix in (("", "unet."), (TEXT_ENCODER, TEXT_ENCODER))
    }
    if not any(found.values()):  # `save_lora_adapter` of a UNet writes it without a prefix
        found[""] = config
    for one in found.values():
        check_plain(one, source)
    return {part: with_patterns(one, source) for part, one in found.items()}


def check_plain(config: Mapping[str, Any], source: str) -> None:
    """Check that a LoraConfig describes a plain LoRA.

    Raises:
        InputError: it does not.
    """
    variants = [name for name, value in config.items() if value and re.match("use_(?!rslora)|lora_bias|kasa", name)]
    start = config.get("init_lora_weights")
    variants += [start] if isinstance(start, str) and start.startswith(_REBASED) else []
    if config.get("peft_type", "LORA") != "LORA":
        variants.append(str(config["peft_type"]))
    if variants:
        raise InputError(f"{source} uses {', '.join(variants)}, which cannot be blended; give a plain LoRA.")


def check_alpha(value: object, source: str) -> float:
    """Return an alpha.

    Raises:
        InputError: it is no finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST_ALPHA:
        raise InputError(f"{source} has alpha {value!r}, which is not a number above 0.")
    return float(value)


def _of_layer(config: Mapping[str, Any], pattern: str, layer: str) -> Any:
    """Return the value of a PEFT pattern for a layer; None if no pattern matches."""
    # A pattern of the text encoder is written for the names of transformers 4, or of 5.
    names = (layer.removeprefix(TEXT_ENCODER), module_name(layer, ())) if is_text(layer) else (layer,)
    found = (config[pattern].value(name) for name in names)
    return next((value for value in found if value is not None), None)
