"""ostris/ai-toolkit 27a03a91 (2026-08-21): toolkit/lora_special.py, toolkit/network_mixins.py, toolkit/saving.py."""

import torch

from tests.programs import kohya
from tests.programs.layers import LDM, Refused, is_text, product


def apply(tensors, header, shapes):
    """As it continues the training of a LoRA, with rank and alpha of the file's first layer in its config.

    The scale comes from the config, and a linear layer of another rank is padded with zeros or cut to it.
    """
    names = {kohya.name(layer): layer for layer in shapes}
    if any(key.partition(".")[0] not in names for key in tensors):  # then it tries the names of the checkpoint
        names |= {f"lora_unet_{LDM[layer].replace('.', '_')}": layer for layer in shapes if not is_text(layer)}
    updates, left_out, rank, scale = {}, [], None, None
    for key, down in tensors.items():
        own, _, part = key.partition(".")
        if own not in names or part not in ("lora_down.weight", "lora_up.weight", "alpha"):
            left_out.append(key)
        elif part == "lora_down.weight" and f"{own}.lora_up.weight" in tensors:
            up = tensors[f"{own}.lora_up.weight"]
            rank = rank or len(down)
            scale = scale or (float(tensors.get(f"{own}.alpha", 0)) or len(down)) / len(down)
            if down.ndim != len(shapes[names[own]]) or (down.ndim == 4 and len(down) != rank):
                raise Refused(f"size mismatch for {own}")
            updates[names[own]] = product(up[:, :rank], down[:rank], scale, shapes[names[own]])
    return updates, left_out


def write(layers, dtype=torch.float16):
    return kohya.write(layers, dtype)[0], {"ss_base_model_version": "sd_1.5", "ss_output_name": "x", "format": "pt"}
