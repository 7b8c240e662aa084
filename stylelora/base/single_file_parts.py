"""The networks in a single-file checkpoint, by the rules of diffusers' `from_single_file`; but nothing is left out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylelora.base.single_file import CALLED, Checkpoint
from stylelora.records import InputError, some

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_part(checkpoint: Checkpoint, kind: Any, part: str) -> nn.Module:
    """Load one part in float32, straight from the file.

    Args:
        checkpoint: the file.
        kind: class of the part.
        part: `unet`, `vae` or `text_encoder`.

    Raises:
        InputError: weights are missing, of other shapes, more than the part has, or quantised.
    """
    state, names = _tensors(checkpoint, part), checkpoint.keys[part]
    if other := [names[name] for name, value in state.items() if not value.is_floating_point()]:
        raise InputError(f"{checkpoint.path} is quantised ({some(other)}); give it in float16 or float32")
    module = _empty(kind, checkpoint.configs / part)
    wanted = module.state_dict()
    problem = f"the {CALLED[part]} in {checkpoint.path} is not that of a Stable Diffusion 1.x or 2.x"
    try:
        renamed = _renamed(state, module, part)
    except (AttributeError, LookupError) as error:  # diffusers takes some weights for granted
        raise InputError(f"{problem}: it lacks some weights ({error})") from error
    if lacking := [name for name in wanted if renamed.get(name) is None]:
        raise InputError(f"{problem}: it lacks what diffusers calls {some(lacking)}")
    if other := [name for name, value in wanted.items() if value.shape != renamed[name].shape]:
        raise InputError(f"{problem}: other shapes have what diffusers calls {some(other)}")
    used = {renamed[name].data_ptr() for name in wanted}  # open_clip's joint matrices are taken apart into copies
    if more := [names[name] for name in state if state[name].data_ptr() not in used and ".in_proj_" not in name]:
        raise InputError(f"{problem}: it also has {some(more)}")
    module.load_state_dict({name: renamed[name].float().contiguous() for name in wanted}, assign=True)
    return module


def hash_part(checkpoint: Checkpoint, part: str) -> str:
    """Hash a part's configuration and weights, or the tokenizer; equal parts of two files have the same hash."""
    import torch

    digest = hashlib.sha256()
    for file in sorted((checkpoint.configs / part).iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    for name, value in sorted(_tensors(checkpoint, part).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _tensors(checkpoint: Checkpoint, part: str) -> dict[str, Tensor]:
    """Return the weights of a part by their original names; none for the tokenizer."""
    from safetensors import safe_open

    with safe_open(checkpoint.path, "pt") as file:
        return {name: file.get_tensor(key) for name, key in checkpoint.keys.get(part, {}).items()}


def _empty(kind: Any, folder: Path) -> nn.Module:
    """Build a network without weights, of diffusers or transformers."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        if hasattr(kind, "load_config"):
            return kind.from_config(kind.load_config(folder))
        return kind(kind.config_class.from_pretrained(folder))


def _renamed(state: dict[str, Tensor], module: nn.Module, part: str) -> dict[str, Tensor]:
    """Return the weights under the names that the module has."""
    from diffusers.loaders import single_file_utils as rules

    if part == "unet":
        return rules.convert_ldm_unet_checkpoint(state, module.config)
    if part == "vae":
        return rules.convert_ldm_vae_checkpoint(state, module.config)
    if any(name.startswith("cond_stage_model.model.") for name in state):
        renamed = rules.convert_open_clip_checkpoint(module, state)
    else:
        renamed = rules.convert_ldm_clip_checkpoint(state)
    return {name.removeprefix("text_model."): value for name, value in renamed.items()}  # transformers 5 has no wrapper
