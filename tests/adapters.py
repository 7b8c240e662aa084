"""Adapters that were moved away from their start, and two ways to blend their files."""

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from stylelora.lora.blend import added, blend
from stylelora.lora.inject import adapted_modules, inject_lora
from stylelora.lora.read import read_adapter
from stylelora.lora.write import trained_layers, write_lora
from tests.tiny_sd import disturb, predict

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYTHING = [*ATTENTION, "conv1", "proj_in", "ff.net.0.proj"]


def base_unet(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval()


def write_adapter(tiny_sd, path, rank, alpha, target_modules, seed):
    unet = base_unet(tiny_sd)
    inject_lora(unet, rank, alpha, 0.0, target_modules, seed=seed)
    torch.manual_seed(seed)
    disturb(unet)
    notes = {"base": "tiny", "style": path.stem, "trigger": f"{path.stem}style"}
    write_lora(path, trained_layers(adapted_modules(unet)), notes)
    return path


def write_two(tiny_sd, folder):
    """Write two adapters of different rank, alpha and layers; return their files."""
    return [
        write_adapter(tiny_sd, folder / "ink.safetensors", 4, 10.0, ATTENTION, 1),
        write_adapter(tiny_sd, folder / "oil.safetensors", 2, 1.0, EVERYTHING, 2),
    ]


def in_process(tiny_sd, files, weights, **options):
    unet = base_unet(tiny_sd)
    with added(unet, blend([read_adapter(file) for file in files], weights, **options)):
        return predict(unet)


def in_diffusers(tiny_sd, files, weights):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    names = [f"a{i}" for i in range(len(files))]
    for name, file in zip(names, files, strict=True):
        pipeline.load_lora_weights(file, adapter_name=name)
    pipeline.set_adapters(names, list(weights))
    return predict(pipeline.unet.eval())
