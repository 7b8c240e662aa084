"""Names of earlier versions, and what they are called now."""

from __future__ import annotations

import re

OPTIONS = {
    "targets": "target_modules",
    "guidance": "guidance_scale",
    "guidances": "guidance_scales",
    "sample_steps": "num_inference_steps",
    "steps": "num_inference_steps",
    "decay": "lr_scheduler.decay",
    "lr_decay_ratio": "lr_scheduler.decay",
    "learning_rate": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "dropout": "lora_dropout",
    "kernel": "interpolation",
    "upscale_kernel": "upscale_interpolation",
    "words": "prompt_baselines",
    "arms": "conditions",
}
#: Options of `preprocess` that are in groups now.
GROUPED = {
    "crop": "pictures.crop",
    "resize": "pictures.resize",
    "background": "pictures.background",
    "caption_template": "captioning.template",
    "blip": "captioning.blip",
    "scorer": "captioning.scorer",
    "vocabulary": "captioning.vocabulary",
    "device": "captioning.device",
    "max_enlargement": "limits.enlargement",
    "min_sharpness": "limits.sharpness",
    "min_jpeg_quality": "limits.jpeg_quality",
}
PLACES = {
    "datamodules.Evaluation": "datamodules.EvaluationSet",
    "lightning_modules.mini": "lightning_modules.pretraining",
    "datamodules.mini": "datamodules.pretraining",
    "configs/mini": "configs/pretraining",
}


def new_option(name: str) -> str | None:
    """Return the new name of an option, None if it was never one."""
    name = name.lstrip("-")
    return GROUPED.get(name) or OPTIONS.get(name.rpartition(".")[2])


def new_place(message: str) -> str | None:
    """Return a sentence about a module, class or folder that a message names by its old name, None if there is none."""
    for old, new in PLACES.items():
        if re.search(rf"(?<![\w/]){re.escape(old)}(?!\w)", message):
            return f"{old} is now {new}"
    return None
