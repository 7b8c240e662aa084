"""Checks of an adapter file: one complete LoRA with known key names and a usable alpha."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from stylelora.records import InputError

# Where diffusers looks for the LoraConfig of the adapter; without it, it takes alpha = rank.
CONFIG = "lora_adapter_metadata"
_KEY = re.compile(r"unet\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the header of a safetensors file.

    Raises:
        InputError: the file is missing, or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InputError(f"there is no adapter file {path}.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file, or is damaged ({error}).") from error


def check_layers(state: Mapping[str, Tensor], source: str) -> dict[str, int]:
    """Check that weights are one complete LoRA, named as diffusers names them.

    Args:
        state: tensors by name.
        source: where they come from; begins the error message.

    Returns:
        rank of each adapted module by its full name.

    Raises:
        InputError: they are not.
    """
    matches = {key: _KEY.fullmatch(key) for key in state}
    if not any(matches.values()):
        raise InputError(f"{source} has no LoRA weights of a UNet in diffusers' format; it has {some(state)}.")
    strangers = [key for key, match in matches.items() if not match]
    if strangers:
        raise InputError(f"{source} holds keys that are not LoRA weights of a UNet: {some(strangers)}.")
    modules = dict.fromkeys(match["module"] for match in matches.values() if match)
    ranks = {}
    for module in modules:
        pair = [state.get(f"unet.{module}.lora_{factor}.weight") for factor in "AB"]
        if any(factor is None or factor.ndim not in (2, 4) or not factor.numel() for factor in pair):
            raise InputError(f"{source} lacks lora_A or lora_B of {module}.")
        down, up = (len(pair[0]), pair[1].flatten(1).shape[1])  # also finds a kernel wider than 1 x 1 in lora_B
        if down != up:
            raise InputError(f"{source} has lora_A of rank {down} and lora_B of rank {up} in {module}.")
        ranks[module] = down
    return ranks


def check_header(header: Mapping[str, str], source: str) -> dict[str, object]:
    """Check that a header states the UNet's alpha.

    Args:
        header: header of the file.
        source: where it comes from; begins the error message.

    Returns:
        PEFT's LoraConfig of the UNet's part as far as the header has it, with "lora_alpha" unchecked.

    Raises:
        InputError: it does not.
    """
    try:
        config = json.loads(header.get(CONFIG, "{}"))
    except json.JSONDecodeError as error:
        raise InputError(f"{source} has an unreadable header entry {CONFIG} ({error}).") from error
    if not isinstance(config, dict) or "unet.lora_alpha" not in config:
        raise InputError(f"{source} does not record its alpha, so the strength it was trained with is unknown.")
    return {key.removeprefix("unet."): value for key, value in config.items() if key.startswith("unet.")}


def check_alpha(value: object, source: str) -> float:
    """Check that an alpha is valid.

    Args:
        value: the value in the header.
        source: where it comes from; begins the error message.

    Returns:
        the number.

    Raises:
        InputError: it is no finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{source} has alpha {value!r}, which is not a number above 0.")
    return float(value)


def some(names: Iterable[str]) -> str:
    """Shorten a list for an error message.

    Args:
        names: any number of names.

    Returns:
        the first three, and the number of further ones.
    """
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more
