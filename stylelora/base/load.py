"""Resolve a base model and load its components separately, in float32.

A base is a folder in the layout of diffusers' StableDiffusionPipeline, or a single file (`single_file.py`). It is named
by `mini` (the embedded one), a local path, or a hub id such as `stable-diffusion-v1-5/stable-diffusion-v1-5`.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stylelora.base.check_configs import RECIPE, check_numbers, check_scheduler, check_tokenizer
from stylelora.base.clip_vocabulary import clip_tokenizer
from stylelora.base.folders import check_folder, download, variant_of
from stylelora.base.single_file import open_checkpoint
from stylelora.base.single_file_parts import hash_part, load_part
from stylelora.base.zero_terminal_snr import has_zero_terminal_snr, with_zero_terminal_snr
from stylelora.records import InputError, some
from stylelora.texts import check_is_file, read_object

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

MINI = Path(__file__).parent / "mini"
MOST_SIDE = 8192  # px; sixteen times what Stable Diffusion 1.5 was made for
ALIGNMENT = 64  # bytes; of the memory that PyTorch allocates


@functools.cache
def resolve_base(name: str) -> Path:
    """Return the folder or file of a base, downloading a folder from the hub if needed.

    Args:
        name: `mini`, a diffusers folder, a single-file checkpoint, or a hub id.

    Raises:
        InputError: if it is no Stable Diffusion 1.x or 2.x, or the hub lacks it or cannot be reached.
    """
    path = MINI if name == "mini" else Path(os.path.expanduser(name))
    if os.path.isdir(path):  # unlike Path.is_dir, never raises for long names
        return check_folder(path)
    if os.path.exists(path):
        check_is_file(path)
        return open_checkpoint(path).path
    return check_folder(download(name))


def configs_of(base: Path) -> Path:
    """Return the folder of a base's configurations, in diffusers' layout: the base itself unless it is a file."""
    return open_checkpoint(base).configs if base.is_file() else base


def _load(kind: Any, base: Path, part: str) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):  # constructors draw initial weights; keep the training RNG untouched
        if base.is_file():
            module = load_part(open_checkpoint(base), kind, part)
        else:
            options = {"torch_dtype": torch.float32, "use_safetensors": True, "variant": variant_of(base / part)}
            module, found = _pretrained(kind, base / part, "safetensors weights", output_loading_info=True, **options)
            if lost := sorted(found["missing_keys"]):  # the libraries would draw them at random
                raise InputError(f"{base / part} lacks the weights {some(lost)}; download it again")
            if more := sorted(key for key in found["unexpected_keys"] if not key.endswith("position_ids")):
                log.warning("%s has weights that are not read: %s", base / part, some(more))
    for weight in module.parameters():
        # Mapped from a file, weights lie wherever its header ends, and the last bits of results depend on that.
        if weight.data_ptr() % ALIGNMENT:
            weight.data = weight.data.clone()
    return module.eval().requires_grad_(False)


def _pretrained(kind: Any, folder: Path, what: str, **options: Any) -> Any:
    """Return what diffusers or transformers make of a folder; for one that is damaged they raise any kind of error."""
    try:
        return kind.from_pretrained(folder, **options)
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise InputError(f"{folder} has no {what} that can be loaded ({why}); download it again") from error


def load_unet(base: Path) -> nn.Module:
    """Load the UNet, float32, frozen."""
    from diffusers import UNet2DConditionModel

    return _load(UNet2DConditionModel, base, "unet")


def load_vae(base: Path) -> nn.Module:
    """Load the autoencoder, float32, frozen."""
    from diffusers import AutoencoderKL

    return _load(AutoencoderKL, base, "vae")


def load_text_encoder(base: Path) -> nn.Module:
    """Load the text encoder, float32, frozen."""
    from transformers import CLIPTextModel

    return _load(CLIPTextModel, base, "text_encoder")


def load_tokenizer(base: Path) -> Any:
    """Load the tokenizer."""
    from transformers import CLIPTokenizer

    folder = configs_of(base) / "tokenizer"
    if base.is_file() and not (folder / "tokenizer.json").is_file():
        return clip_tokenizer(folder)
    tokenizer = _pretrained(CLIPTokenizer, folder, "tokenizer of CLIP")
    check_tokenizer(tokenizer, read_config(base, "text_encoder"), folder)
    return tokenizer


def load_scheduler(base: Path) -> Any:
    """Load the checkpoint's scheduler, which also holds the training noise schedule."""
    import diffusers

    folder = configs_of(base) / "scheduler"
    name = read_object(folder / "scheduler_config.json").get("_class_name")
    own = {"prediction_type": open_checkpoint(base).prediction_type} if base.is_file() else {}
    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise InputError(f"{folder} has the class {name}, which is no scheduler of diffusers; download it again")
    scheduler = _pretrained(kind, folder, "scheduler", **own)
    check_scheduler(scheduler, folder)
    rescaled = open_checkpoint(base).zero_terminal_snr if base.is_file() else has_zero_terminal_snr(scheduler)
    return with_zero_terminal_snr(scheduler) if rescaled else scheduler


def read_config(base: Path, part: str) -> dict:
    """Return the config.json of one component."""
    return read_object(configs_of(base) / part / "config.json")


def sampling_recipe(base: Path) -> tuple[int, float]:
    """Return the recommended (steps, guidance scale): from `sampling.json`, or 30 and SD 1.5's usual 7.5."""
    path = configs_of(base) / "sampling.json"
    recipe = read_object(path) if path.is_file() else {"num_inference_steps": 30, "guidance_scale": 7.5}
    check_numbers(path, recipe, RECIPE)
    return recipe["num_inference_steps"], recipe["guidance_scale"]


def size_step(base: Path) -> int:
    """Return the total downsampling factor of VAE and UNet; image sides must be multiples of it: 64 px for SD 1.5."""
    levels = sum(len(read_config(base, part)["block_out_channels"]) for part in ("vae", "unet"))
    return 2 ** (levels - 2)


def native_resolution(base: Path) -> int:
    """Return the resolution in pixels the base was trained at: 512 for SD 1.5, 64 for mini."""
    levels = len(read_config(base, "vae")["block_out_channels"])
    return read_config(base, "unet")["sample_size"] * 2 ** (levels - 1)


def latent_shape(base: Path, width: int, height: int) -> tuple[int, int, int]:
    """Return channels, height and width of the latents of a picture, whose sides are in pixels."""
    vae = read_config(base, "vae")
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return vae["latent_channels"], height // factor, width // factor


def check_resolution(base: Path, resolution: int) -> None:
    """Check that the resolution is divisible by the total downsampling factor of VAE and UNet.

    Raises:
        InputError: if not; the message names the nearest valid resolutions.
    """
    step = size_step(base)
    if resolution > MOST_SIDE:
        raise InputError(
            f"resolution {resolution} is more than {MOST_SIDE} px; give what suits the base and the memory"
        )
    if resolution < step or resolution % step:
        below = max(step, resolution // step * step)
        raise InputError(
            f"resolution {resolution} does not suit this base: it must be a multiple of {step}, "
            f"such as {below} or {below + step}"
        )


@functools.cache
def part_hash(base: Path, part: str) -> str:
    """Hash a component's config and weights, so that caches derived from them are never stale."""
    if base.is_file():
        return hash_part(open_checkpoint(base), part)
    digest = hashlib.sha256()
    for path in sorted((base / part).iterdir()):
        if path.suffix in (".json", ".safetensors", ".txt"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
