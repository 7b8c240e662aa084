"""LoRA files of one layer or of many, as kohya's trainer and PEFT write them."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

CONFIG = "lora_adapter_metadata"
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA_Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


def kohya(layers, dtype=torch.float32, attention=None):
    """The tensors of kohya's trainer; rank and alpha differ between layers, unless all of attention have one alpha."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for index, (layer, module) in enumerate(layers.items()):
        name, rank, ones = f"lora_unet_{layer.replace('.', '_')}", 2 + index % 3, [1] * (module.weight.ndim - 2)
        down = torch.randn(rank, *module.weight.shape[1:], generator=generator)
        up = torch.randn(len(module.weight), rank, *ones, generator=generator)
        # so that no layer's part of the output drowns the others'
        state[f"{name}.lora_down.weight"] = (down / down[0].numel() ** 0.5).to(dtype)
        state[f"{name}.lora_up.weight"] = (0.03 * up).to(dtype)
        alpha = attention if attention and "_to_" in name else 1.0 + index % 4
        state[f"{name}.alpha"] = torch.tensor(alpha).to(dtype)
    return state


def one_layer(**changes):
    """Kohya's tensors of one layer of rank 2; a change to None removes."""
    tensors = {"lora_down.weight": torch.ones(2, 16), "lora_up.weight": torch.ones(16, 2), "alpha": torch.tensor(1.0)}
    tensors |= {key.replace("__", "."): value for key, value in changes.items()}
    return {f"{KOHYA_Q}.{key}": value for key, value in tensors.items() if value is not None}


def written(path, state, header=None):
    save_file(state, path, metadata=header)
    return path


def also(name, shape=(2, 2)):
    return one_layer() | {name: torch.ones(shape)}


def peft(layer=Q):
    """PEFT's tensors of one layer of rank 2."""
    return {f"unet.{layer}.lora_A.weight": torch.ones(2, 16), f"unet.{layer}.lora_B.weight": torch.ones(16, 2)}


def with_notes(file, path, **notes):
    """Copy a file with further notes in its header."""
    with safe_open(file, "pt") as opened:
        return str(written(path, load_file(file), opened.metadata() | notes))
