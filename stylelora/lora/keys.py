"""What an adapter file must hold: one complete LoRA with known key names and a usable alpha."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from stylelora.records import InputError

_KEY = re.compile(r"unet\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def check_keys(state: Mapping[str, Tensor], source: str) -> tuple[int, list[str]]:
    """Check that weights are one complete LoRA of one rank, named as diffusers names them.

    Args:
        state: tensors by name.
        source: what holds them; begins the error's sentence.

    Returns:
        rank, and full names of the adapted modules.

    Raises:
        InputError: they are not.
    """
    matches = {key: _KEY.fullmatch(key) for key in state}
    if not any(matches.values()):
        raise InputError(f"{source} holds no LoRA weights of a UNet in diffusers' format; it holds {some(state)}.")
    strangers = [key for key, match in matches.items() if not match]
    if strangers:
        raise InputError(f"{source} holds keys that are not LoRA weights of a UNet: {some(strangers)}.")
    modules = dict.fromkeys(match["module"] for match in matches.values() if match)
    ranks = {}
    for module in modules:
        pair = [state.get(f"unet.{module}.lora_{factor}.weight") for factor in "AB"]
        if any(factor is None or factor.ndim not in (2, 4) for factor in pair):
            raise InputError(f"{source} lacks lora_A or lora_B of {module}.")
        if pair[0].shape[0] != pair[1].shape[1]:
            raise InputError(
                f"{source} has lora_A of rank {pair[0].shape[0]} and lora_B of rank {pair[1].shape[1]} in {module}."
            )
        ranks[module] = pair[0].shape[0]
    if len(set(ranks.values())) > 1:
        raise InputError(f"{source} mixes the ranks {sorted(set(ranks.values()))}; one rank per file is supported.")
    return next(iter(ranks.values())), list(modules)


def check_alpha(value: object, source: str) -> float:
    """Check that an alpha can be used.

    Args:
        value: whatever a header holds.
        source: what holds it; begins the error's sentence.

    Returns:
        the number.

    Raises:
        InputError: it is no finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"{source} has alpha {value!r}, which is not a number above 0.")
    return float(value)


def fits(key: str, value: Tensor, modules: Mapping[str, nn.Module]) -> bool:
    """Tell whether one weight belongs to a base.

    Args:
        key: its name in the file.
        value: lora_A, (rank, in, ...), or lora_B, (out, rank, ...).
        modules: the base's `Linear` and `Conv2d` modules by full name.

    Returns:
        whether the base has the module, with the same widths.
    """
    match = _KEY.fullmatch(key)
    layer = modules.get(match["module"]) if match else None
    if layer is None:
        return False
    weight = layer.weight
    if match["factor"] == "A":
        return value.shape[1:] == weight.shape[1:]
    return value.ndim == weight.ndim and value.shape[0] == weight.shape[0]


def some(names: Iterable[str]) -> str:
    """Shorten a list for an error's sentence.

    Args:
        names: any number of names.

    Returns:
        the first three, and how many more there are.
    """
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more
