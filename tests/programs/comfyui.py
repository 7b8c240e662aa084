"""Comfy-Org/ComfyUI 17358c8f: comfy/lora.py; 6f98b150: comfy/weight_adapter/lora.py; 9d8a8179: comfy/utils.py,
comfy_extras/nodes_lora_extract.py."""

import torch

from tests.programs.layers import LDM, Refused, is_text, product

#: The first that is there counts.
FACTORS = (
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
)


def names(shapes, generic_text=True):
    """Every name that a layer may have in a file."""
    found = {}
    for layer in shapes:
        flat = layer.replace(".", "_")
        if is_text(layer):
            path = layer.removeprefix("text_encoder.")
            if generic_text:
                found[f"text_encoders.clip_l.transformer.{path}"] = layer
            found |= dict.fromkeys((f"lora_te_{path.replace('.', '_')}", f"lora_te1_{path.replace('.', '_')}"), layer)
            found[layer] = layer
        else:
            old = layer.replace(".to_", ".processor.to_").removesuffix(".0" if layer.endswith("to_out.0") else "?")
            ldm = LDM[layer]
            found |= dict.fromkeys((f"lora_unet_{ldm.replace('.', '_')}", f"diffusion_model.{ldm}"), layer)
            found |= dict.fromkeys((f"lora_unet_{flat}", f"lycoris_{flat}", old, f"unet.{old}"), layer)
    return found


def apply(tensors, header, shapes, named=names, factors=FACTORS):
    updates, loaded = {}, set()
    for name, layer in named(shapes).items():
        alpha = tensors.get(f"{name}.alpha")
        loaded |= {f"{name}.alpha"} & tensors.keys()
        for up, down in factors:
            if f"{name}{up}" not in tensors:
                continue
            if f"{name}{down}" not in tensors:
                raise Refused(f"KeyError: {name}{down}")
            first = tensors[f"{name}{down}"]
            scale = 1.0 if alpha is None else alpha.item() / len(first)
            change = product(tensors[f"{name}{up}"], first, scale, shapes[layer])
            if change is not None:  # else an error is logged, and the layer stays as it is
                updates[layer] = change
                loaded |= {f"{name}{up}", f"{name}{down}"}
            break
    return updates, [key for key in tensors if key not in loaded]


def write(layers, dtype=torch.float16):
    """What "Extract and Save Lora" writes: no alpha, and without a header. Biases and norms need `bias_diff` off."""
    tensors = {}
    for layer, parts in layers.items():
        path = layer.removeprefix("text_encoder.")
        own = f"text_encoders.clip_l.transformer.{path}" if is_text(layer) else f"diffusion_model.{LDM[layer]}"
        tensors[f"{own}.lora_up.weight"] = parts.up.to(dtype)
        tensors[f"{own}.lora_down.weight"] = parts.down.to(dtype)
    return tensors, None
