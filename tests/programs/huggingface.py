"""diffusers and PEFT: no restatement, but the installed libraries themselves on the tiny checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.programs.layers import Refused, is_text

TEXT = "text_encoder.text_model."


def in_diffusers(file, checkpoint):
    """What `StableDiffusionPipeline.load_lora_weights` makes of a file: {layer: change of its weight}."""
    import transformers
    from diffusers import StableDiffusionPipeline

    transformers.logging.set_verbosity_error()  # it reports the base's own weights as missing from the LoRA
    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint)
    try:
        pipeline.load_lora_weights(file, adapter_name="a")
    except Exception as error:  # of any kind: KeyError, ValueError, RuntimeError ...
        raise Refused(f"{type(error).__name__}: {error}") from error
    return _changes(pipeline.unet, "a", "") | _changes(pipeline.text_encoder, "a", TEXT)


def in_peft(folder, model, prefix=""):
    """What `PeftModel.from_pretrained` makes of a folder, on a UNet, or with prefix `TEXT` on a text encoder."""
    from peft import PeftModel

    return _changes(PeftModel.from_pretrained(model, folder, adapter_name="a").base_model.model, "a", prefix)


def _changes(model, adapter, prefix):
    return {
        prefix + name: module.get_delta_weight(adapter).detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and adapter in module.lora_A
    }


def config(layers):
    """PEFT's settings of a LoRA whose rank and alpha differ between layers."""
    first = next(iter(layers.values()))
    return {
        "r": len(first.down),
        "lora_alpha": first.alpha,
        "rank_pattern": {f"^{layer}": len(parts.down) for layer, parts in layers.items()},
        "alpha_pattern": {f"^{layer}": parts.alpha for layer, parts in layers.items()},
        "target_modules": sorted(layers),
    }


def write_peft(layers, folder, model):
    """`PeftModel.save_pretrained` of a LoRA of one model, whose layers are named as the model names its modules."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(**config(layers)))
    _fill(adapted.base_model.model, layers, "default")
    adapted.save_pretrained(folder)


def write_adapter(layers, folder, unet):
    """`unet.save_lora_adapter`: keys without a prefix, and the settings in the header."""
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(**config(layers)), adapter_name="a")
    _fill(unet, layers, "a")
    unet.save_lora_adapter(folder, adapter_name="a")


def write_pipeline(layers, folder, header=True, text_prefix="text_encoder."):
    """`StableDiffusionPipeline.save_lora_weights`, with the settings that a script may leave out.

    A script names the text encoder's modules as its transformers does: with `text_model.` before version 5; with
    `text_prefix=TEXT` without.
    """
    from diffusers import StableDiffusionPipeline

    unet = {layer: parts for layer, parts in layers.items() if not is_text(layer)}
    text = {layer.removeprefix(text_prefix): parts for layer, parts in layers.items() if is_text(layer)}
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=_tensors(unet),
        text_encoder_lora_layers=_tensors(text),
        unet_lora_adapter_metadata=config(unet) if header else None,
        text_encoder_lora_adapter_metadata=config(text) if header and text else None,
    )


def write_old(layers, attention="processor.{}_lora", text="lora_linear_layer"):
    """diffusers before PEFT: `processor.to_q_lora.down`, and no alpha; with `{}.lora` its later `to_q.lora.down`."""
    tensors = {}
    for layer, parts in layers.items():
        own = f"{'' if is_text(layer) else 'unet.'}{layer}"
        block, _, last = own.rpartition(".")
        if is_text(layer):
            own = f"{own}.{text}"
        elif ".attn" in layer:
            block, last = (own.removesuffix(".to_out.0"), "to_out") if last == "0" else (block, last)
            last = "to_out.0" if last == "to_out" and attention == "{}.lora" else last
            own = f"{block}.{attention.format(last)}"
        else:
            own = f"{own}.lora"
        tensors |= {f"{own}.down.weight": parts.down, f"{own}.up.weight": parts.up}
    return tensors, None


def _tensors(layers):
    found = {}
    for layer, parts in layers.items():
        found |= {f"{layer}.lora_A.weight": parts.down, f"{layer}.lora_B.weight": parts.up}
    return found


def _fill(model, layers, adapter):
    with torch.no_grad():
        for layer, parts in layers.items():
            module = model.get_submodule(layer)
            module.lora_A[adapter].weight.copy_(parts.down)
            module.lora_B[adapter].weight.copy_(parts.up)


def load(file):
    """Tensors and header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return load_file(file), opened.metadata() or {}


def save(path: Path, tensors, header):
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=header)
    return path
