"""The page of the manual on other programs, from what they make of our files and we of theirs.

    python -m tests.programs.table

writes it; a test fails when it is not what this makes.
"""

import re
import tempfile
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from stylelora.lora.factors import Layer
from stylelora.lora.lora_file import read_lora
from stylelora.lora.write import write_lora
from stylelora.records import InputError
from tests.programs import a1111, ai_toolkit, comfyui, forge, huggingface, kohya, lycoris, onetrainer
from tests.programs.files import FILES
from tests.programs.layers import Refused, differences, every_kind, random_lora, shapes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "programs.md"
#: Program: what reads a file, and where the rule was read.
PROGRAMS = {
    "ComfyUI": (comfyui.apply, "Comfy-Org/ComfyUI `17358c8f`, `6f98b150`; `comfy/utils.py` of 2025-11-27, `9d8a8179`"),
    "A1111": (a1111.apply, "AUTOMATIC1111/stable-diffusion-webui 1.8, `c8a5322d`, and `load_network` of 1.10"),
    "Forge": (forge.apply, "lllyasviel/stable-diffusion-webui-forge `dfdcbab6`"),
    "kohya's sd-scripts": (kohya.apply, "kohya-ss/sd-scripts `48d368fa`"),
    "LyCORIS": (lycoris.apply, "KohakuBlueleaf/LyCORIS `f49d30d6`"),
    "OneTrainer": (onetrainer.apply, "Nerogar/OneTrainer `23df3832`"),
    "ai-toolkit": (ai_toolkit.apply, "ostris/ai-toolkit `27a03a91`"),
    "diffusers": (None, "diffusers 0.42.1 itself, with transformers 5.23 and PEFT 0.21.2"),
    "PEFT": (None, "PEFT 0.21.2 itself"),
}


TEXT = """# Other programs

Give kohya's names, which `fit` writes, to every program but PEFT.

What other programs make of the files that `fit`, `merge` and `convert` write, and what we make of theirs. This page is
written by a test, from the programs' rules as `tests/programs/` restates them, and from diffusers and PEFT themselves.
When they were written, the restatements agreed with the programs' own loading code on twenty files; the programs as a
whole were not run. *Exact*: every layer is applied to 1e-6, of a LoRA with all kinds of layers of the UNet and the text
encoder and with alpha other than the rank.

## Our files

{ours}

Kohya's names are the default. A file with them has one alpha for all layers of the UNet, and one for those of the text
encoder, because diffusers loses alphas that differ; the rest is folded into the weights. OneTrainer and ai-toolkit read
a LoRA to train it further, and need one rank for all layers: that of their settings.

## Their files

{theirs}

LoHa, LoKr and LoCon, also with its Tucker decomposition, are read exactly, too, as the low-rank updates that they are.
So are the files of `StableDiffusionPipeline.save_lora_weights`, with and without the settings in the header, those of
`unet.save_lora_adapter`, and folders of `PeftModel.save_pretrained`. To rewrite a file for another program:

```console
python cli.py convert downloaded.safetensors --format kohya --output for-comfyui.safetensors
```

## What to know

- **Without an alpha** every program takes the rank, except LyCORIS, which does not load the file. Kohya's sd-scripts,
  LyCORIS and ai-toolkit take alpha 0 for the rank, too; we refuse it, as the merging script of sd-scripts takes it for
  strength 0.
- **The text encoder** is `lora_te_...` for kohya, LyCORIS and ai-toolkit. They pass over `lora_te1_...`, which some
  trainers write; ComfyUI, Forge, A1111, OneTrainer, diffusers and we read both.
- **diffusers' names** are made for diffusers. ComfyUI loads such a file by parts: everything but the attention layers.
  Forge refuses a file with more than twelve keys that it does not know. A1111 passes over all of it without a word.
- **diffusers** takes a text encoder with kohya's names only if the file has an `out_proj` layer, or `mlp` layers alone.
  Otherwise it fails, or leaves out `q_proj`, `k_proj` and `v_proj` without a word. It does not know the blocks of the
  checkpoint (`lora_unet_input_blocks_...`) in SD 1.5: it applies four layers of them.
- **Older diffusers**, tried once: 0.35 (transformers 4.57) reads both our files exactly, but not `conv_in`, `conv_out`
  and `time_embedding` under kohya's names; 0.32 (transformers 4.48) does so only where all layers have one rank.
- **kohya's sd-scripts** never wrap `conv_in`, `conv_out` and `time_embedding`, and say that they leave them out.
- **SD 2** has linear layers where SD 1 has 1x1 convolutions (`proj_in`, `proj_out`). ComfyUI, Forge, A1111 and we take
  either for the other; kohya, LyCORIS, OneTrainer and ai-toolkit do not. A1111 changes the attention of SD 2's text
  encoder only in layers where a file has all of `q_proj`, `k_proj`, `v_proj` and `out_proj`.

## Where the rules were read

{sources}
"""


def outcome(updates, layers):
    """What a program makes of a LoRA, in words."""
    wrong = differences(updates, layers)
    right = {layer for layer, difference in wrong.items() if difference < 1e-6}
    lost = sorted(updates.keys() - right)
    if lost:
        return f"**wrong strength** in {len(lost)} of {len(layers)} layers"
    if len(right) == len(layers):
        return "exact"
    if not right:
        return "nothing"
    missing = {layer for layer in layers if layer not in right}
    if missing <= set(kohya.NOT_WRAPPED):
        return "exact but for `conv_in`, `conv_out`, `time_embedding`, which it does not train either"
    if all(".to_" in layer for layer in missing):
        return "by parts: no attention layer"
    return f"{len(right)} of {len(layers)} layers"


def made_of_ours(name, file, layers, checkpoint, of):
    """What a program makes of one of our files, or of our folder for PEFT."""
    try:
        if name == "PEFT":
            if not file.is_dir():
                return "does not read files"
            updates = {}
            models = (UNet2DConditionModel, "unet", ""), (CLIPTextModel, "text_encoder", huggingface.TEXT)
            for kind, part, prefix in models:
                model = kind.from_pretrained(checkpoint, subfolder=part)
                updates |= huggingface.in_peft(file / part, model, prefix)
        elif file.is_dir():
            return "does not read folders"
        elif name == "diffusers":
            updates = huggingface.in_diffusers(file, checkpoint)
        else:
            updates = PROGRAMS[name][0](*huggingface.load(file), of)[0]
    except Refused as error:
        return f"refused: {str(error).split(':')[0].split(' for ')[0]}"
    return outcome(updates, layers)


def of_our_files(checkpoint, folder):
    """Rows of the first table."""
    of = shapes()
    loras = [every_kind(random_lora(of, ranks=(3,), alphas=(1.5,))), every_kind(random_lora(of))]
    rows = []
    for name in PROGRAMS:
        row = [name]
        for names in ("kohya", "diffusers", "peft"):
            cells = []
            for index, lora in enumerate(loras):
                file = folder / (f"{names}{index}" + ("" if names == "peft" else ".safetensors"))
                if not file.exists():
                    ours = {layer: Layer(parts.down, parts.up, parts.alpha) for layer, parts in lora.items()}
                    write_lora(file, ours, {}, names)
                cells.append(made_of_ours(name, file, lora, checkpoint, of))
            one, mixed = cells
            row.append(one if one == mixed else f"{one}; with ranks that differ: {mixed}")
        rows.append(row)
    return rows


def of_their_files(folder):
    """Rows of the second table."""
    of = shapes()
    lora = every_kind(random_lora(of, torch.float16))
    rows = []
    for name, write in FILES.items():
        (tensors, header), meant = write(lora)
        file = read_lora(huggingface.save(folder / "x.safetensors", tensors, header))
        updates = {layer: one.update.dense() for layer, one in file.layers.items()}
        alpha = "in the file" if file.states_alpha else "none: the rank"
        rows.append([name, _example(tensors), outcome(updates, meant), alpha])
    layer = "mid_block.resnets.0.conv1"
    for name, tensors in lycoris.write_others(layer, of[layer]).items():
        try:
            read_lora(huggingface.save(folder / "x.safetensors", tensors, None))
            said = "read"
        except InputError as error:
            said = "refused: it " + str(error).split("safetensors ")[1].split(";")[0].split(" (it holds")[0]
        rows.append([f"LyCORIS, {name}", f"`{list(tensors)[-1]}`", said, ""])
    return rows


def _example(tensors):
    """A key of the UNet and one of the text encoder, without their middle."""
    found = []
    for mark in ("attn1", "layers_0_self_attn_q", "layers.0.self_attn.q"):
        key = next((key for key in tensors if mark in key and re.search(r"down\.weight|_A\.weight", key)), None)
        found += [] if key is None else [f"`{re.sub('[._](transformer_blocks|model[._]encoder).*(?=attn)', '…', key)}`"]
    return "<br>".join(found)


def table(heading, rows):
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(rows, folder):
    """The page in Markdown, with the rows of `of_our_files`."""
    ours = table(["program", "kohya's names", "diffusers' names", "PEFT folder"], rows)
    theirs = table(["written by", "keys", "we read", "alpha"], of_their_files(folder))
    sources = table(["program", "read at"], [[name, source] for name, (_, source) in PROGRAMS.items()])
    return TEXT.format(ours=ours, theirs=theirs, sources=sources)


if __name__ == "__main__":
    from tests.tiny_sd import build_tiny_sd

    with tempfile.TemporaryDirectory() as scratch:
        found = of_our_files(build_tiny_sd(Path(scratch) / "base"), Path(scratch))
        PAGE.write_text(page(found, Path(scratch)), encoding="utf-8")
