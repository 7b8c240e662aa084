"""A LoRA as each program writes it, and what the program means by that."""

import torch

from tests.programs import ai_toolkit, comfyui, huggingface, kohya, lycoris, onetrainer
from tests.programs.layers import Layer, folded, is_text


def without_text(lora):
    return {layer: parts for layer, parts in lora.items() if not is_text(layer)}


def rounded(lora):
    return {layer: Layer(parts.down.bfloat16(), parts.up.bfloat16(), parts.alpha) for layer, parts in lora.items()}


def of_alpha(lora, alpha):
    return {layer: Layer(parts.down, parts.up, alpha) for layer, parts in lora.items()}


#: What a program writes of a LoRA, and what it means by that.
FILES = {
    "kohya": lambda lora: (kohya.write(lora), lora),
    "kohya, float16": lambda lora: (kohya.write(lora, torch.float16), lora),
    "kohya, bfloat16": lambda lora: (kohya.write(lora, torch.bfloat16), rounded(lora)),
    "kohya, whole numbers as alpha": lambda lora: (kohya.write(of_alpha(lora, 2), None), of_alpha(lora, 2)),
    "kohya, UNet alone": lambda lora: (kohya.write(without_text(lora)), without_text(lora)),
    "kohya's names, lora_te1_": lambda lora: (kohya.write(lora, prefix="lora_te1"), lora),
    "kohya's names, blocks of the checkpoint": lambda lora: ((kohya.renamed(lora, kohya.in_ldm_names), None), lora),
    "LyCORIS, lora": lambda lora: (lycoris.write(lora), lora),
    "ai-toolkit": lambda lora: (ai_toolkit.write(lora), lora),
    "ComfyUI, extracted": lambda lora: (comfyui.write(lora), folded(lora)),
    "OneTrainer, DIFFUSERS_LORA": lambda lora: (onetrainer.write(lora, "DIFFUSERS_LORA"), lora),
    "OneTrainer, KOHYA_LORA": lambda lora: (onetrainer.write(lora, "KOHYA_LORA"), lora),
    "OneTrainer, COMFY_LORA": lambda lora: (onetrainer.write(lora, "COMFY_LORA"), lora),
    "OneTrainer, COMFY_LORA of SD 2": lambda lora: (onetrainer.write(lora, "COMFY_LORA", clip="clip_h"), lora),
    "OneTrainer, ORIGINAL_LORA": lambda lora: (
        onetrainer.write(without_text(lora), "ORIGINAL_LORA"), without_text(lora)
    ),
    "OneTrainer, backup": lambda lora: (onetrainer.write(lora, "INTERNAL"), lora),
    "OneTrainer, with bundle_emb": lambda lora: (onetrainer.write(lora, "KOHYA_LORA", embedding=True), lora),
    "diffusers before PEFT": lambda lora: (huggingface.write_old(lora), folded(lora)),
    "diffusers' to_q.lora.down": lambda lora: (huggingface.write_old(lora, "{}.lora"), folded(lora)),
}  # fmt: skip
