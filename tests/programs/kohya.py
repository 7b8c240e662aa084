"""kohya-ss/sd-scripts 48d368fa (2026-02-16): networks/lora.py, networks/merge_lora.py."""

import torch

from tests.programs.layers import LDM, Refused, is_text, product

#: It wraps what is inside of Transformer2DModel, ResnetBlock2D, Downsample2D and Upsample2D only.
NOT_WRAPPED = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")


def name(layer):
    """`lora_unet_...`, and for the only text encoder `lora_te_...`, never `lora_te1_...`."""
    prefixed = f"lora_te.{layer.removeprefix('text_encoder.')}" if is_text(layer) else f"lora_unet.{layer}"
    return prefixed.replace(".", "_")


def apply(tensors, header, shapes):
    names = {name(layer): layer for layer in shapes if layer not in NOT_WRAPPED}
    updates, left_out = {}, []
    for key in tensors:
        own, _, part = key.partition(".")
        if own not in names:
            left_out.append(key)
        elif part == "lora_down.weight":
            if f"{own}.lora_up.weight" not in tensors:
                raise Refused(f"KeyError: {own}.lora_up.weight")
            down, shape = tensors[key], shapes[names[own]]
            if len(shape) != down.ndim:  # merge_lora.py takes a matrix given as a 1x1 convolution, lora.py does not
                raise Refused(f"size mismatch for {own}")
            alpha = float(tensors.get(f"{own}.alpha", len(down))) or len(down)
            change = product(tensors[f"{own}.lora_up.weight"], down, alpha / len(down), shape)
            if change is None:
                raise Refused(f"size mismatch for {own}")
            updates[names[own]] = change
        elif part not in ("lora_up.weight", "alpha"):
            left_out.append(key)
    return updates, left_out


def write(layers, dtype=torch.float32, prefix="lora_te"):
    """What `save_weights` writes; some trainers number the only text encoder, prefix `lora_te1`.

    Without a dtype, an alpha that is a whole number stays one.
    """
    tensors = {}
    for layer, parts in layers.items():
        own = name(layer).replace("lora_te_", f"{prefix}_", 1)
        tensors[f"{own}.alpha"] = torch.tensor(parts.alpha)
        tensors[f"{own}.lora_down.weight"] = parts.down
        tensors[f"{own}.lora_up.weight"] = parts.up
    if dtype is not None:
        tensors = {key: value.to(dtype) for key, value in tensors.items()}
    header = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "Dynamic",
        "ss_network_alpha": "Dynamic",
        "ss_base_model_version": "sd_v1",
        "ss_output_name": "of_kohya",
        "ss_tag_frequency": '{"8_ink": {"inkstyle": 12, "a fox": 3}}',
    }
    return tensors, header


def renamed(layers, name_of):
    """Its tensors under other names of the layers."""
    tensors = {}
    for layer, parts in layers.items():
        for key, value in write({layer: parts})[0].items():
            tensors[f"{name_of(layer)}.{key.partition('.')[2]}"] = value
    return tensors


def in_ldm_names(layer):
    """`lora_unet_input_blocks_...`, after the modules of the single-file checkpoint."""
    return name(layer) if is_text(layer) else f"lora_unet_{LDM[layer].replace('.', '_')}"
