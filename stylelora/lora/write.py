"""The adapter file: safetensors with diffusers' key names, the trained alpha and where the adapter came from.

`StableDiffusionPipeline.load_lora_weights(file)` reads it with the right strength and no further argument.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylelora.lora.inject import ADAPTER, adaptable_modules, inject_lora
from stylelora.lora.keys import CONFIG, check_alpha, check_header, check_keys, fits, read_file, some
from stylelora.records import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter file says about itself.

    Attributes:
        rank: rank of every layer.
        alpha: the adapter's contribution is scaled by alpha / rank.
        target_modules: full names of the adapted modules.
        metadata: the file's own notes (base, style, trigger, ...).
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    metadata: dict[str, str]


def adapter_state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Copy the adapter's weights out of a UNet.

    Args:
        unet: model with an adapter from `inject_lora`.

    Returns:
        fp32 tensors on the CPU; per adapted module "unet.<module>.lora_A.weight", (rank, in) for `Linear` and
        (rank, in, height, width) for `Conv2d`, and "unet.<module>.lora_B.weight", (out, rank) or (out, rank, 1, 1).
    """
    return {
        key: parameter.detach().to("cpu", torch.float32, copy=True).contiguous()
        for key, parameter in _parameters(unet).items()
    }


def save_adapter(
    path: Path, state: Mapping[str, Tensor], *, rank: int, alpha: float, metadata: Mapping[str, str]
) -> None:
    """Write an adapter file, all or nothing: after an error or a kill, `path` is what it was before.

    Args:
        path: file to write or replace; its folder is made.
        state: weights named as `adapter_state` names them; stored as fp32.
        rank: rank of every layer.
        alpha: the alpha it was trained with.
        metadata: notes for the header; "rank" and "alpha" are added.

    Raises:
        InputError: the weights are not one adapter of this rank, or are not finite.
        OSError: the file could not be written, or reads back different.
    """
    from safetensors.torch import save

    state = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in state.items()}
    found, modules = check_keys(state, "the adapter")
    if found != rank:
        raise InputError(f"the adapter's weights have rank {found}, not {rank}; it is not saved.")
    _check_finite(state)
    config = {"unet.r": rank, "unet.lora_alpha": check_alpha(alpha, "the adapter"), "unet.target_modules": modules}
    header = {
        **metadata,
        "format": "pt",
        "rank": str(rank),
        "alpha": str(alpha),
        CONFIG: json.dumps(config, sort_keys=True),
    }
    _write_whole(Path(path), save(state, metadata=header), lambda file: _reads_back(file, state, rank, alpha))


def save_kohya(
    path: Path, state: Mapping[str, Tensor], *, rank: int, alpha: float, metadata: Mapping[str, str]
) -> None:
    """Write the weights under kohya's key names, which ComfyUI, A1111 and diffusers read, too; all or nothing.

    Args:
        path: file to write or replace; its folder is made.
        state: weights named as `adapter_state` names them; stored as fp32.
        rank: rank of every layer.
        alpha: of every layer.
        metadata: notes for the header.

    Raises:
        InputError: the weights are not one adapter.
        OSError: the file could not be written, or reads back different.
    """
    from safetensors.torch import load, save

    layers = check_keys(state, "the adapter")[1]
    _check_finite(state)
    renamed = {}
    for layer in layers:
        name = f"lora_unet_{layer.replace('.', '_')}"
        for factor, kohya in (("A", "lora_down"), ("B", "lora_up")):
            value = state[f"unet.{layer}.lora_{factor}.weight"].detach().to("cpu", torch.float32)
            renamed[f"{name}.{kohya}.weight"] = value.contiguous()
        renamed[f"{name}.alpha"] = torch.tensor(alpha)
    notes = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(alpha)}
    data = save(renamed, {**metadata, **notes, "format": "pt"})

    def reads_back(file: Path) -> bool:
        written = load(file.read_bytes())
        return written.keys() == renamed.keys() and all(torch.equal(written[key], renamed[key]) for key in renamed)

    _write_whole(Path(path), data, reads_back)


def _check_finite(state: Mapping[str, Tensor]) -> None:
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(f"the adapter has NaN or infinite weights in {some(broken)}; it is not saved.")


def _write_whole(path: Path, data: bytes, reads_back: Callable[[Path], bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target, so that the final rename stays on one file system and is atomic.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not reads_back(partial):
            raise OSError(f"{path} reads back different from what was written; the disk may be full or faulty.")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_adapter(path: Path) -> tuple[dict[str, Tensor], AdapterInfo]:
    """Read and check an adapter file.

    Args:
        path: a file from `save_adapter`, or any diffusers LoRA of a UNet that carries its alpha.

    Returns:
        fp32 weights as `adapter_state` gives them, and what the file says about them.

    Raises:
        InputError: the file is missing, is no safetensors file, holds something else than one complete LoRA of one
            rank, or does not say its alpha.
    """
    state, header = read_file(path)
    rank, modules = check_keys(state, str(path))
    config = check_header(header, str(path))
    alpha = check_alpha(config["lora_alpha"], str(path))
    if config.get("r", rank) != rank:
        raise InputError(f"{path} says rank {config['r']}, but its weights have rank {rank}.")
    variants = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")  # each changes the scale alpha / rank
    if used := [name for name in variants if config.get(name)]:
        raise InputError(f"{path} uses {', '.join(used)}, which is not supported.")
    notes = {key: value for key, value in header.items() if key not in ("format", CONFIG)}
    state = {key: value.to(torch.float32) for key, value in state.items()}
    return state, AdapterInfo(rank=rank, alpha=alpha, target_modules=tuple(modules), metadata=notes)


def apply_adapter(unet: UNet2DConditionModel, path: Path) -> AdapterInfo:
    """Put a saved adapter into a UNet; after an error the UNet is untouched.

    Args:
        unet: base model without an adapter, changed in place; everything but the adapter is frozen.
        path: adapter file.

    Returns:
        what the file says about itself.

    Raises:
        InputError: the file is refused by `load_adapter`, or was made for another base.
    """
    state, info = load_adapter(path)
    modules = adaptable_modules(unet)
    misfits = [key for key, value in state.items() if not fits(key, value, modules)]
    if misfits:
        made_for = f" (made for {info.metadata['base']})" if "base" in info.metadata else ""
        raise InputError(f"{path}{made_for} does not fit this base: {some(misfits)}.")
    inject_lora(unet, info.rank, info.alpha, dropout=0.0, target_modules=info.target_modules, seed=0)
    parameters = _parameters(unet)
    if parameters.keys() != state.keys():
        raise RuntimeError(f"PEFT adapted other modules: {some(sorted(parameters.keys() ^ state.keys()))}")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(state[key])
    return info


def _parameters(unet: UNet2DConditionModel) -> dict[str, torch.nn.Parameter]:
    """The adapter's parameters by their names in the file."""
    marker = f".{ADAPTER}.weight"
    return {
        f"unet.{name.removesuffix(marker)}.weight": parameter
        for name, parameter in unet.named_parameters()
        if name.endswith((f".lora_A{marker}", f".lora_B{marker}"))
    }


def _reads_back(path: Path, state: Mapping[str, Tensor], rank: int, alpha: float) -> bool:
    """Whether a file holds exactly this; compared as integers, because 0.0 equals -0.0."""
    try:
        written, info = load_adapter(path)
    except InputError:
        return False
    if (info.rank, info.alpha, written.keys()) != (rank, alpha, state.keys()):
        return False
    return all(torch.equal(written[key].view(torch.int32), state[key].view(torch.int32)) for key in state)
