"""lllyasviel/stable-diffusion-webui-forge dfdcbab6 (2025-06-26): packages_3rdparty/comfyui_lora_collection/lora.py and
extensions-builtin/sd_forge_lora/networks.py. It has ComfyUI's names of 2024, and refuses what fits badly."""

from tests.programs import comfyui
from tests.programs.layers import Refused

FACTORS = tuple(pair for pair in comfyui.FACTORS if pair[0] not in (".lora_B", ".lora_B.default.weight"))
MOST_LEFT_OUT = 12


def apply(tensors, header, shapes):
    updates, left_out = comfyui.apply(
        tensors, header, shapes, lambda shapes: comfyui.names(shapes, generic_text=False), FACTORS
    )
    if len(left_out) > MOST_LEFT_OUT:
        raise Refused("LoRA version mismatch")
    return updates, left_out
