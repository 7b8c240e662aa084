"""Nerogar/OneTrainer 23df3832 (2026-08-19), formats as of de1437cb (2026-07-03): modules/util/convert_lora_util.py,
load_lora_util.py, convert_util.py, modules/modelSaver/mixin/LoRASaverMixin.py, modules/model/StableDiffusionModel.py,
modules/module/LoRAModule.py."""

import torch

from tests.programs import kohya
from tests.programs.layers import LDM, Refused, is_text, product

FORMATS = ("DIFFUSERS_LORA", "KOHYA_LORA", "COMFY_LORA", "ORIGINAL_LORA", "INTERNAL")
#: Its own parts, and the other spellings that it knows.
DOWN = ("lora_down.weight", "lora_A.weight", "lora.down.weight")
UP = ("lora_up.weight", "lora_B.weight", "lora.up.weight")
PARTS = dict.fromkeys(DOWN, "down") | dict.fromkeys(UP, "up") | {"alpha": "alpha"}


def apply(tensors, header, shapes):
    """As it continues the training of a LoRA, with the rank of the file in its settings."""
    names, files = {}, {}
    for layer in shapes:
        flat = kohya.name(layer)
        if is_text(layer):
            path = layer.removeprefix("text_encoder.")
            comfy = f"text_encoders.clip_l.transformer.{path}"
            names |= dict.fromkeys((layer, flat, flat.replace("lora_te_", "lora_te1_", 1), comfy), layer)
        else:
            names |= dict.fromkeys((f"unet.{layer}", flat, f"diffusion_model.{LDM[layer]}", LDM[layer]), layer)
    for key, value in tensors.items():
        if key.startswith("bundle_emb."):  # loaded as an embedding
            continue
        short = key.removeprefix("base_model.model.").replace(".default.weight", ".weight")
        part = next((part for part in PARTS if short.endswith(f".{part}")), "")
        name = short.removesuffix(f".{part}")
        if not part or name not in names:
            raise Refused(f"an adapter type or a layer that it cannot load ({key})")
        files.setdefault(names[name], {})[PARTS[part]] = value
    if incomplete := [layer for layer, parts in files.items() if not {"down", "up"} <= parts.keys()]:
        raise Refused(f"missing keys in {incomplete[0]}")
    other = any(parts["down"].ndim != len(shapes[layer]) for layer, parts in files.items())
    if other or len({len(parts["down"]) for parts in files.values()}) != 1:
        raise Refused("size mismatch: every layer must have the shape, and the one rank, of its settings")
    updates = {}
    for layer, parts in files.items():
        down = parts["down"]
        scale = float(parts.get("alpha", len(down))) / len(down)
        updates[layer] = product(parts["up"], down, scale, shapes[layer])
    return updates, []


def write(layers, form, dtype=torch.float32, embedding=False, clip="clip_l"):
    """What it writes in one of its formats; with `bundle_additional_embeddings` it adds trained embeddings.

    In COMFY_LORA the text encoder is `clip_l` for SD 1, `clip_h` for SD 2.
    """
    text = [layer for layer in layers if is_text(layer)]
    if form == "ORIGINAL_LORA" and (text or embedding):
        raise Refused("cannot represent more than one trained component")
    tensors = {}
    if form == "KOHYA_LORA":
        tensors = kohya.write(layers, dtype)[0]
    for layer, parts in layers.items() if form != "KOHYA_LORA" else ():
        own = f"{'' if is_text(layer) else 'unet.'}{layer}"
        if form in ("COMFY_LORA", "ORIGINAL_LORA"):
            own = f"{'diffusion_model.' if form == 'COMFY_LORA' else ''}{LDM.get(layer)}"
            if is_text(layer):
                own = f"text_encoders.{clip}.transformer.{layer.removeprefix('text_encoder.')}"
        up = parts.up.to(dtype)
        alpha = torch.tensor(parts.alpha).to(dtype)
        down_name, up_name = ("lora_down", "lora_up") if form == "INTERNAL" else ("lora_A", "lora_B")
        if form == "DIFFUSERS_LORA":
            up = up * (alpha / up.shape[1])
        else:
            tensors[f"{own}.alpha"] = alpha
        tensors |= {f"{own}.{down_name}.weight": parts.down.to(dtype), f"{own}.{up_name}.weight": up}
    if embedding:
        tensors["bundle_emb.<ink>.clip_l"] = torch.ones(2, 32).to(dtype)
    header = {"modelspec.sai_model_spec": "1.0.0", "modelspec.architecture": "stable-diffusion-v1/lora"}
    header |= {"modelspec.implementation": "https://github.com/Stability-AI", "modelspec.title": "SD 1.5"}
    return tensors, header | {"ot_branch": "master", "ot_revision": "23df383"}
