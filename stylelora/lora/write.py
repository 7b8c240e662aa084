"""The adapter file: safetensors with diffusers' key names, the trained alpha and where the adapter came from.

`StableDiffusionPipeline.load_lora_weights(file)` reads it with the right strength and no further argument.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stylelora.lora.check_file import CONFIG, check_alpha, check_layers, read_file, some
from stylelora.lora.inject import ADAPTER
from stylelora.records import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


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
    """Write an adapter file completely or not at all; after an error or a kill `path` is unchanged.

    Args:
        path: file to write or replace; its folder is made.
        state: weights named as `adapter_state` names them; stored as fp32.
        rank: rank of every layer.
        alpha: the alpha it was trained with.
        metadata: metadata for the header; "rank" and "alpha" are added.

    Raises:
        InputError: the weights are not one adapter of this rank, or are not finite.
        OSError: the file could not be written, or reads back different.
    """
    state = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in state.items()}
    layers = _check(state, rank)
    config = {"unet.r": rank, "unet.lora_alpha": check_alpha(alpha, "the adapter"), "unet.target_modules": layers}
    header = {
        **metadata,
        "format": "pt",
        "rank": str(rank),
        "alpha": str(alpha),
        CONFIG: json.dumps(config, sort_keys=True),
    }
    _write_whole(Path(path), state, header)


def save_kohya(
    path: Path, state: Mapping[str, Tensor], *, rank: int, alpha: float, metadata: Mapping[str, str]
) -> None:
    """Write the weights under kohya's key names, for ComfyUI, A1111 and also diffusers; completely or not at all.

    Args:
        path: file to write or replace; its folder is made.
        state: weights named as `adapter_state` names them; stored as fp32.
        rank: rank of every layer.
        alpha: of every layer.
        metadata: metadata for the header.

    Raises:
        InputError: the weights are not one adapter.
        OSError: the file could not be written, or reads back different.
    """
    renamed = {}
    for layer in _check(state, rank):
        name = f"lora_unet_{layer.replace('.', '_')}"
        for factor, kohya in (("A", "lora_down"), ("B", "lora_up")):
            value = state[f"unet.{layer}.lora_{factor}.weight"].detach().to("cpu", torch.float32)
            renamed[f"{name}.{kohya}.weight"] = value.contiguous()
        renamed[f"{name}.alpha"] = torch.tensor(alpha)
    notes = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_network_alpha": str(alpha)}
    _write_whole(Path(path), renamed, {**metadata, **notes, "format": "pt"})


def _check(state: Mapping[str, Tensor], rank: int) -> list[str]:
    """Check for finite weights of one complete LoRA, all of this rank, and return its layers."""
    ranks = check_layers(state, "the adapter")
    if other := set(ranks.values()) - {rank}:
        raise InputError(f"the adapter's weights have rank {min(other)}, not {rank}; it is not saved.")
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(f"the adapter has NaN or infinite weights in {some(broken)}; it is not saved.")
    return list(ranks)


def _write_whole(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file, verify it by reading it back, and only then move it into place."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    # Written next to the target, so that the final rename stays on one file system and is atomic.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(save(dict(state), metadata=dict(header)))
            file.flush()
            os.fsync(file.fileno())
        if not _reads_back(partial, state, header):
            raise OSError(f"{path} reads back different from what was written; the disk may be full or faulty.")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _parameters(unet: UNet2DConditionModel) -> dict[str, torch.nn.Parameter]:
    """Return the adapter's parameters by their names in the file."""
    marker = f".{ADAPTER}.weight"
    return {
        f"unet.{name.removesuffix(marker)}.weight": parameter
        for name, parameter in unet.named_parameters()
        if name.endswith((f".lora_A{marker}", f".lora_B{marker}"))
    }


def _reads_back(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> bool:
    """Return whether a file has exactly this content; compared as integers, because 0.0 equals -0.0."""
    try:
        written, said = read_file(path)
    except InputError:
        return False
    if said != header or written.keys() != state.keys():
        return False
    return all(torch.equal(written[key].view(torch.int32), state[key].view(torch.int32)) for key in state)
