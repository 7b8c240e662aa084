"""The bases that are measured: mini, SD 1.5's exact shape with random weights, or any folder; and pictures."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stylelora.base.clip_vocabulary import clip_tokenizer
from stylelora.base.load import load_scheduler, load_text_encoder, load_tokenizer, load_unet, load_vae, resolve_base

CONFIGS = Path(__file__).resolve().parents[2] / "stylelora" / "base" / "configs" / "sd-1"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Parts:
    """The networks of a base, float32, frozen, on the CPU."""

    unet: nn.Module
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    scheduler: Any

    @classmethod
    def of(cls, name: str) -> Parts:
        """Load a base, as the product does."""
        folder = resolve_base(name)
        loaders = load_unet, load_vae, load_text_encoder, load_tokenizer, load_scheduler
        return cls(*(load(folder) for load in loaders))

    def take(self, name: str) -> nn.Module:
        """Return a network of its own layers; weights are common until they are moved, cast or changed."""
        module = getattr(self, name)
        return copy.deepcopy(module, {id(one): nn.Parameter(one.data, False) for one in module.parameters()})


def prepare_base(name: str, folder: Path, device: str) -> str:
    """Return what a base is called in `model.base`; `sd15` is written to a folder first, unless it is there.

    Args:
        name: `mini`, `sd15` or a diffusers folder.
        folder: where bases are written, 4.3 GB for `sd15`.
        device: where the random weights are drawn.
    """
    if name != "sd15":
        return name
    target = folder / "sd15"
    if not (target / "model_index.json").is_file():
        shutil.rmtree(target, ignore_errors=True)
        build_sd15(target, device)
    return str(target)


def build_sd15(target: Path, device: str) -> None:
    """Write a base of SD 1.5's exact shape with random weights, in diffusers' layout; the index comes last."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / "vae"))
        text_encoder = CLIPTextModel(CLIPTextConfig(**_read(CONFIGS / "text_encoder" / "config.json")))
    for part, module in {"unet": unet, "vae": vae, "text_encoder": text_encoder}.items():
        module.to("cpu").save_pretrained(target / part)
    clip_tokenizer(CONFIGS / "tokenizer").save_pretrained(target / "tokenizer")
    shutil.copytree(CONFIGS / "scheduler", target / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline"}
    index |= {part: ["diffusers", type(one).__name__] for part, one in {"unet": unet, "vae": vae}.items()}
    (target / "model_index.json").write_text(json.dumps(index))


def _read(path: Path) -> dict:
    return json.loads(path.read_text())
