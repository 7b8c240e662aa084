"""AUTOMATIC1111/stable-diffusion-webui 1.10: extensions-builtin/Lora/networks.py, network_lora.py, network.py (read at
c8a5322d of 2024-02-26; `load_network` of 1.10 differs for SD 3 only)."""

import re
from collections import defaultdict

from tests.programs.layers import LDM, Refused, is_text, product

RESNET = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
RESNET["conv_shortcut"] = "skip_connection"


def module_of(name):
    """The module of the checkpoint, with "_" for ".", that a name stands for."""
    if found := re.match(r"lora_unet_conv_(in|out)(.*)", name):
        return f"diffusion_model_{'input_blocks_0_0' if found[1] == 'in' else 'out_2'}{found[2]}"
    if found := re.match(r"lora_unet_time_embedding_linear_(\d+)(.*)", name):
        return f"diffusion_model_time_embed_{2 * int(found[1]) - 2}{found[2]}"
    if found := re.match(r"lora_unet_(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", name):
        at = 3 * int(found[2]) + int(found[4]) + (found[1] == "down")
        side = "input" if found[1] == "down" else "output"
        return f"diffusion_model_{side}_blocks_{at}_{_inside(found[3], found[5])}"
    if found := re.match(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", name):
        at = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"diffusion_model_middle_block_{at}_{_inside(found[1], found[3])[2:]}"
    if found := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", name):
        return f"diffusion_model_input_blocks_{3 + 3 * int(found[1])}_0_op"
    if found := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", name):
        return f"diffusion_model_output_blocks_{2 + 3 * int(found[1])}_{2 if int(found[1]) else 1}_conv"
    for prefix in ("lora_te_text_model", "lora_te1_text_model"):
        if name.startswith(prefix):
            return name.replace(prefix, "transformer_text_model")
    return name.replace("lora_unet", "diffusion_model")


def _inside(kind, suffix):
    return f"1_{suffix}" if kind == "attentions" else f"0_{RESNET.get(suffix, suffix)}"


def apply(tensors, header, shapes):
    text = {f"transformer.{layer.removeprefix('text_encoder.')}": layer for layer in shapes if is_text(layer)}
    unet = {f"diffusion_model.{LDM[layer]}": layer for layer in shapes if not is_text(layer)}
    modules = {name.replace(".", "_"): layer for name, layer in (text | unet).items()}
    found, left_out = defaultdict(dict), []
    for key, value in tensors.items():
        name, _, part = key.partition(".")
        module = module_of(name)
        if module == "diffusion_model":  # the UNet as a whole is a module, too
            raise Refused(f"no module type would accept the key {part}")
        if module in modules:
            found[modules[module]][part] = value
        elif name != "bundle_emb":  # those become embeddings
            left_out.append(key)
    updates = {}
    for layer, parts in found.items():
        if not {"lora_up.weight", "lora_down.weight"} <= parts.keys():
            raise Refused(f"no module type would accept the keys {', '.join(parts)}")
        down = parts["lora_down.weight"]
        scale = parts["alpha"].item() / len(down) if "alpha" in parts else 1.0
        updates[layer] = product(parts["lora_up.weight"], down, scale, shapes[layer])
    return updates, left_out
