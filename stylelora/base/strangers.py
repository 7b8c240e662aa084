"""What a file is that was given as a base and is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from stylelora.records import InputError, some

#: Suffixes of files that are pickled, so that opening them can run any code.
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
_WHOLE = "give a whole checkpoint of Stable Diffusion 1.x or 2.x"
_FOLDER = "give the diffusers folder that it is from, the one with model_index.json, or a whole checkpoint"
# Pattern of a key -> what the file is, and what to do. The first match is reported.
_KINDS = {
    r"lora_(down|up|mid|A|B|unet|te)|[._]lora\.|hada_w|lokr_w|oft_": (
        "a LoRA, not a base",
        "give it as an adapter, and as base the checkpoint that it was trained on",
    ),
    r"^conditioner\.embedders\.1\.": ("an SDXL checkpoint", _WHOLE),
    r"joint_blocks\.|double_blocks\.|double_layers\.|^text_encoders\.": ("a newer model, such as SD 3 or Flux", _WHOLE),
    r"^control_model\.|^input_hint_block\.|^controlnet_cond_embedding\.": ("a ControlNet, not a base", _WHOLE),
    r"motion_modules?\.": ("a motion module of AnimateDiff, not a base", _WHOLE),
    r"\.label_emb\.": ("another model, such as SDXL, unCLIP or an upscaler", _WHOLE),
    r"^emb_params$|^string_to_param": ("an embedding (textual inversion), not a base", _WHOLE),
    r"^(down_blocks|mid_block|up_blocks)\.": ("the UNet alone, in diffusers' layout", _FOLDER),
    r"^(text_model|embeddings|encoder\.layers)\.": ("a text encoder alone", _FOLDER),
    r"^(encoder|decoder)\.": ("a VAE alone", _WHOLE),
}
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
_INPUTS = {9: "made for inpainting", 8: "made for editing, as InstructPix2Pix", 5: "made for depth maps"}


def refuse_strangers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file that is known to be something else than a text-to-image checkpoint in the original layout.

    Args:
        path: the file.
        shapes: shape of each tensor by its name in the file.

    Raises:
        InputError: says what the file is, and names some of its keys.
    """
    for pattern, (what, advice) in _KINDS.items():
        if found := [key for key in shapes if re.search(pattern, key)]:
            raise InputError(f"{path} is {what} (it has {some(found)}); {advice}")
    if FIRST_LAYER not in shapes and any(key.startswith("model_ema.diffusion_model") for key in shapes):
        raise InputError(
            f"{path} has its UNet only as EMA weights (model_ema...), under names that no program reads; {_WHOLE}"
        )
    _, channels, *_ = (*shapes.get(FIRST_LAYER, (0, 4)), 0, 0)
    if channels != 4:
        what = _INPUTS.get(channels, "another model")
        raise InputError(f"{path} is {what}: its UNet takes {channels} channels, not 4; {_WHOLE}")
