"""Bases as diffusers folders, on disk and from the hub."""

from __future__ import annotations

from pathlib import Path

from stylelora.base.check_configs import check_configs
from stylelora.base.strangers import PICKLED
from stylelora.records import InputError, some
from stylelora.texts import read_object

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
#: File of the weights of each part, without suffix.
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def download(name: str) -> Path:
    """Return the folder of a hub id in the local cache, downloading what is not there; float16 if there is no other.

    Raises:
        InputError: if it is no hub id, or the hub lacks it or cannot be reached.
    """
    if name.endswith((".safetensors", *PICKLED)):
        raise InputError(f"base {name!r} does not exist; give the path of a checkpoint that does")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"base {name!r} does not exist; give 'mini', an existing folder or .safetensors file, or a hub id like "
            "owner/name"
        )
    from huggingface_hub import snapshot_download

    texts = ["model_index.json", *(f"{part}/{file}" for part in PARTS for file in ("*.json", "*.txt"))]
    shards = ".safetensors", "-?????-of-?????.safetensors"
    try:
        plain = [f"{part}/{stem}{end}" for part, stem in WEIGHTS.items() for end in shards]
        folder = Path(snapshot_download(name, allow_patterns=texts + plain))
        lacking = [(part, stem) for part, stem in WEIGHTS.items() if not _has(folder / part, stem)]
        if half := [f"{part}/{stem}.fp16{end}" for part, stem in lacking for end in shards]:
            snapshot_download(name, allow_patterns=half)
    except Exception as error:  # the hub client has a dozen error classes; to the user they mean the same
        raise InputError(
            f"base {name!r} is not in the local hub cache and cannot be fetched ({type(error).__name__}); connect to "
            "the network once, or give the path of a folder that holds it"
        ) from error
    return folder


def check_folder(folder: Path) -> Path:
    """Return the folder if it holds a base.

    Raises:
        InputError: if not; the message says what it lacks, or what it holds instead.
    """
    lacking = [part for part in PARTS if not (folder / part).is_dir()]
    if not lacking and not (folder / "model_index.json").is_file():
        lacking = ["model_index.json"]
    if lacking:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        instead = f"; for a single-file checkpoint give the file itself, such as {folder / files[0]}" if files else ""
        raise InputError(f"{folder} is not a Stable Diffusion folder: it has no {', '.join(lacking)}{instead}")
    kind = read_object(folder / "model_index.json").get("_class_name")
    unet, vae = (read_object(folder / part / "config.json") for part in ("unet", "vae"))
    if kind != "StableDiffusionPipeline" or unet.get("in_channels") != vae.get("latent_channels"):
        raise InputError(f"{folder} is a {kind}, not a text-to-image Stable Diffusion 1.x or 2.x; give one of these")
    check_configs(folder)
    for part in WEIGHTS:
        variant_of(folder / part)
    return folder


def variant_of(folder: Path) -> str | None:
    """Return the variant of a part's weights that is read: None for the plain file, or "fp16" if there is no other.

    Args:
        folder: of the part, such as `unet/`.

    Raises:
        InputError: if there are no such weights; the message says which there are.
    """
    stem = WEIGHTS[folder.name]
    if _has(folder, stem):
        return None
    if _has(folder, stem, ".fp16"):
        return "fp16"
    others = sorted(path.name for path in folder.iterdir() if path.suffix not in (".json", ".md", ".txt"))
    if pickled := [name for name in others if name.endswith(PICKLED)]:
        raise InputError(
            f"{folder} has only pickled weights ({pickled[0]}), and opening a pickle can run any code, so they are not "
            "read; convert the folder, with save_pretrained of diffusers"
        )
    there = f" (it has {some(others)})" if others else ""
    raise InputError(f"{folder} has no {stem}.safetensors{there}; download it again")


def _has(folder: Path, stem: str, variant: str = "") -> bool:
    """Tell whether weights are there, whole or in shards."""
    return (folder / f"{stem}{variant}.safetensors").is_file() or (
        folder / f"{stem}.safetensors.index{variant}.json"
    ).is_file()
