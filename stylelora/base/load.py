"""Resolve a base model and load its components separately, in float32.

A base is a folder in the layout of diffusers' StableDiffusionPipeline. It is named by `mini` (the embedded one), a
local path, or a hub id such as `stable-diffusion-v1-5/stable-diffusion-v1-5`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylelora.records import InputError

if TYPE_CHECKING:
    from torch import nn

MINI = Path(__file__).parent / "mini"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@functools.cache
def resolve_base(name: str) -> Path:
    """Return the folder of a base, downloading it from the hub if needed.

    Args:
        name: `mini`, a folder, or a hub id.

    Raises:
        InputError: if the folder is not a Stable Diffusion checkpoint, or the hub lacks it or cannot be reached.
    """
    folder = MINI if name == "mini" else Path(name)
    if folder.is_dir():
        return _checked(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(f"base {name!r} does not exist; give 'mini', an existing folder or a hub id like owner/name")
    from huggingface_hub import snapshot_download

    patterns = [f"{part}/{file}" for part in PARTS for file in ("*.json", "*.txt", "model.safetensors")]
    patterns += ["model_index.json", "*/diffusion_pytorch_model.safetensors"]
    try:
        snapshot = Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub client has a dozen error classes; to the user they mean the same
        raise InputError(
            f"base {name!r} is not in the local hub cache and cannot be fetched ({type(error).__name__}); connect to "
            "the network once, or give the path of a folder that holds it"
        ) from error
    return _checked(snapshot)


def _checked(folder: Path) -> Path:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing or not (folder / "model_index.json").is_file():
        what = ", ".join(missing) or "model_index.json"
        raise InputError(f"{folder} is not a Stable Diffusion folder: it has no {what}")
    kind = json.loads((folder / "model_index.json").read_text()).get("_class_name")
    channels = read_config(folder, "unet").get("in_channels"), read_config(folder, "vae").get("latent_channels")
    if kind != "StableDiffusionPipeline" or channels[0] != channels[1]:
        raise InputError(f"{folder} is a {kind}, not a text-to-image Stable Diffusion 1.x or 2.x; give one of these")
    return folder


def _load(kind: Any, folder: Path, part: str) -> nn.Module:
    import torch
    from safetensors import SafetensorError

    try:
        with torch.random.fork_rng(devices=[]):  # constructors draw initial weights; keep the training RNG untouched
            module = kind.from_pretrained(folder / part, torch_dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder / part} has no safetensors weights that can be loaded; download it again") from error
    return module.eval().requires_grad_(False)


def load_unet(folder: Path) -> nn.Module:
    """Load the UNet, float32, frozen."""
    from diffusers import UNet2DConditionModel

    return _load(UNet2DConditionModel, folder, "unet")


def load_vae(folder: Path) -> nn.Module:
    """Load the autoencoder, float32, frozen."""
    from diffusers import AutoencoderKL

    return _load(AutoencoderKL, folder, "vae")


def load_text_encoder(folder: Path) -> nn.Module:
    """Load the text encoder, float32, frozen."""
    from transformers import CLIPTextModel

    return _load(CLIPTextModel, folder, "text_encoder")


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def load_scheduler(folder: Path) -> Any:
    """Load the checkpoint's scheduler, which also holds the training noise schedule."""
    import diffusers

    name = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder / "scheduler")


def read_config(folder: Path, part: str) -> dict:
    """Return the config.json of one component."""
    return json.loads((folder / part / "config.json").read_text())


def sampling_recipe(folder: Path) -> tuple[int, float]:
    """Return the recommended (steps, guidance scale): from `sampling.json`, or 30 and SD 1.5's usual 7.5."""
    path = folder / "sampling.json"
    recipe = json.loads(path.read_text()) if path.is_file() else {"num_inference_steps": 30, "guidance_scale": 7.5}
    return recipe["num_inference_steps"], recipe["guidance_scale"]


def size_step(folder: Path) -> int:
    """Return the total downsampling factor of VAE and UNet; image sides must be multiples of it: 64 px for SD 1.5."""
    levels = sum(len(read_config(folder, part)["block_out_channels"]) for part in ("vae", "unet"))
    return 2 ** (levels - 2)


def native_resolution(folder: Path) -> int:
    """Return the resolution in pixels the base was trained at: 512 for SD 1.5, 64 for mini."""
    levels = len(read_config(folder, "vae")["block_out_channels"])
    return read_config(folder, "unet")["sample_size"] * 2 ** (levels - 1)


def check_resolution(folder: Path, resolution: int) -> None:
    """Check that the resolution is divisible by the total downsampling factor of VAE and UNet.

    Raises:
        InputError: if not; the message names the nearest valid resolutions.
    """
    step = size_step(folder)
    if resolution < step or resolution % step:
        below = max(step, resolution // step * step)
        raise InputError(
            f"resolution {resolution} does not suit this base: it must be a multiple of {step}, "
            f"such as {below} or {below + step}"
        )


@functools.cache
def part_hash(folder: Path, part: str) -> str:
    """Hash a component's config and weights, so that caches derived from them are never stale."""
    digest = hashlib.sha256()
    for path in sorted((folder / part).iterdir()):
        if path.suffix in (".json", ".safetensors", ".txt"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
