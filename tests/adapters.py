"""Adapters that were moved away from their start."""

import torch
from diffusers import UNet2DConditionModel

from stylelora.lora.formats import adapter_state, save_adapter
from stylelora.lora.inject import inject_lora
from tests.tiny_sd import disturb

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYTHING = [*ATTENTION, "conv1", "proj_in", "ff.net.0.proj"]


def base_unet(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval()


def write_adapter(tiny_sd, path, rank, alpha, targets, seed):
    unet = base_unet(tiny_sd)
    inject_lora(unet, rank, alpha, 0.0, targets, seed=seed)
    torch.manual_seed(seed)
    disturb(unet)
    notes = {"base": "tiny", "style": path.stem, "trigger": f"{path.stem}style"}
    save_adapter(path, adapter_state(unet), rank=rank, alpha=alpha, metadata=notes)
    return path
