"""Single-file checkpoints of Stable Diffusion 1.x and 2.x: all parts in one `.safetensors`, as from Civitai.

Such a file has weights only. What else a base needs (configurations, noise schedule, CLIP's vocabulary) lies in
`configs/`, as diffusers folders without weights; which of them fits is told from the shapes of the weights.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stylelora.base.prediction import likely_prediction, said_prediction, usual_prediction
from stylelora.base.strangers import FIRST_LAYER, PICKLED, refuse_strangers
from stylelora.records import InputError, some

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "configs"
PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
CALLED = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
# Weights that no part needs: the noise schedule, what only training used, CLIP's comparison with pictures.
_UNUSED = re.compile(
    r"(betas|alphas_\w+|sqrt_\w+|log_one_minus_\w+|posterior_\w+|lvlb_weights|logvar|scale_factor|global_step)"
    r"|v_pred|ztsnr|(model_ema|denoiser|first_stage_model\.(loss|model_ema))\..+"
    r"|cond_stage_model\.(.+\.)?(position_ids|logit_scale|text_projection(\.weight)?|attn_mask)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A single-file checkpoint whose header has been read.

    Attributes:
        path: the file.
        keys: part (`unet`, `vae`, `text_encoder`) -> name of each tensor in the original code -> its name in the file.
        configs: folder of the configurations that fit.
        prediction_type: what the UNet predicts: `epsilon` (the noise) or `v_prediction`.
        zero_terminal_snr: whether its last timestep is pure noise, by ComfyUI's marker `ztsnr`.
    """

    path: Path
    keys: dict[str, dict[str, str]]
    configs: Path
    prediction_type: str
    zero_terminal_snr: bool


@functools.cache
def open_checkpoint(path: Path) -> Checkpoint:
    """Read the header of a checkpoint and find out what it is.

    Raises:
        InputError: the file is pickled, damaged, or no whole text-to-image checkpoint of Stable Diffusion 1.x or 2.x.
    """
    if path.suffix.lower() in PICKLED:
        raise InputError(
            f"{path} is pickled, and opening a pickle can run any code, so it is not read; give it as .safetensors, as "
            "A1111's Checkpoint Merger and ComfyUI's Save Checkpoint write it"
        )
    shapes, notes = _read_header(path)
    refuse_strangers(path, shapes)
    keys: dict[str, dict[str, str]] = {part: {} for part in PREFIXES}
    for key in shapes:
        name = _original_name(key)
        part = next((part for part, prefix in PREFIXES.items() if name.startswith(prefix)), None)
        if part is not None and not _UNUSED.fullmatch(name):
            keys[part][name] = key
    if not any(keys.values()):
        raise InputError(f"{path} is no Stable Diffusion checkpoint (it has {some(shapes)}); give one of 1.x or 2.x")
    if lacking := [f"{CALLED[part]} ({prefix}*)" for part, prefix in PREFIXES.items() if not keys[part]]:
        raise InputError(
            f"{path} is not a whole checkpoint: it has no {' and no '.join(lacking)}; give one with UNet, VAE and text "
            "encoder"
        )
    fitting = _fitting_configs(path, {name: shapes[key] for name, key in keys["unet"].items()})
    usual = [usual_prediction(one) for one in fitting]
    prediction = said_prediction(path, notes, shapes) or (usual[0] if len(set(usual)) == 1 else likely_prediction(path))
    configs = fitting[usual.index(prediction)] if prediction in usual else fitting[0]
    _say_what_is_not_read(path, set(shapes).difference(*(names.values() for names in keys.values())))
    return Checkpoint(path, _without_last_layer(keys, configs), configs, prediction, "ztsnr" in shapes)


def _read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return the shape of each tensor, and the file's notes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        start = b""
        with contextlib.suppress(OSError), path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise InputError(f"{path} is only Git LFS's pointer to a checkpoint; fetch it (git lfs pull)") from error
        if start.lstrip().startswith(b"<"):
            raise InputError(f"{path} is a web page, not a checkpoint; download the checkpoint again") from error
        raise InputError(f"{path} is cut off, damaged or no safetensors file ({error}); download it again") from error


def _original_name(key: str) -> str:
    """Return the name of a tensor in the code of SD 1.x and 2.x; some files follow its successor."""
    return re.sub(r"^conditioner\.embedders\.0\.", PREFIXES["text_encoder"], key)


def _fitting_configs(path: Path, unet: Mapping[str, tuple[int, ...]]) -> list[Path]:
    """Return the folders of configurations with this UNet's width and width of text embeddings."""
    first = (*unet.get(FIRST_LAYER, ()), 0)[0]
    text = (*unet.get("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", ()), 0, 0)[1]
    fitting = []
    for file in sorted(CONFIGS.glob("*/unet/config.json")):
        config = json.loads(file.read_text())
        if (config["block_out_channels"][0], config["cross_attention_dim"]) == (first, text):
            fitting.append(file.parents[1])
    if not fitting:
        raise InputError(
            f"{path} is no Stable Diffusion 1.x or 2.x: its UNet is {first} wide and takes text embeddings of {text}, "
            "not 320 and 768 (1.x) or 1024 (2.x)"
        )
    return fitting


def _without_last_layer(keys: dict[str, dict[str, str]], configs: Path) -> dict[str, dict[str, str]]:
    """Leave out the last layer of SD 2.x's text encoder, whose output no SD 2.x uses."""
    used = json.loads((configs / "text_encoder" / "config.json").read_text())["num_hidden_layers"]
    last = f"cond_stage_model.model.transformer.resblocks.{used}."
    return keys | {"text_encoder": {n: key for n, key in keys["text_encoder"].items() if not n.startswith(last)}}


def _say_what_is_not_read(path: Path, unread: set[str]) -> None:
    if any(key.startswith("model_ema.diffusion_model") for key in unread):
        log.warning("%s also has EMA weights (model_ema...); as in kohya and A1111, they are not read", path)
    if strangers := [key for key in sorted(unread) if not _UNUSED.fullmatch(_original_name(key))]:
        log.warning("%s has weights that are not read: %s", path, some(strangers))
