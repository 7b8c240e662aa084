"""The program `convert`: rewrites a LoRA file for other programs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from stylelora.lora.factors import Factors, Layer, inner, stacked
from stylelora.lora.lora_file import read_lora
from stylelora.lora.names import parts
from stylelora.lora.write import DType, Naming, write_lora
from stylelora.records import InputError

EXACT = 1e-6  # what float32 rounds


def convert(
    file: str,
    output: str,
    format: Naming = "kohya",
    dtype: DType | None = None,
    alpha: float | None = None,
    unet_only: bool = False,
) -> None:
    """Rewrite a LoRA file for other programs; ranks and the notes of its training stay.

    Args:
        file: LoRA file of any program for Stable Diffusion 1.x or 2.x, or a folder that PEFT wrote.
        output: file to write, *.safetensors; for peft a new folder.
        format: key names: kohya (ComfyUI, A1111, Forge and most others), diffusers or peft.
        dtype: type of the weights: float32, float16 or bfloat16; default: the file's.
        alpha: alpha of the layers of which the file does not say it; default: the rank, as other programs take it.
        unet_only: leave out the layers of the text encoder.

    Raises:
        InputError: if the file cannot be read whole, or the output does not suit.
    """
    check_output(output, [file])
    given = read_lora(file, alpha)
    layers = given.layers
    if unet_only and (text := parts(layers)[1]):
        layers = parts(layers)[0]
        if not layers:
            raise InputError(f"{file} has layers of the text encoder only; leave unet_only out")
        print(f"the {len(text)} layers of the text encoder are left out")
    dtype = dtype or _dtype_of(layers)
    say_replaced(output)
    write_lora(Path(output), layers, given.metadata, format, dtype)
    unet, text = (len(part) for part in parts(layers))
    ranks = described_ranks(layer.rank for layer in layers.values())
    print(f"{output} holds {unet} layers of the UNet and {text} of the text encoder, of {ranks}")
    say_change({name: layer.update for name, layer in layers.items()}, output, dtype)


def _dtype_of(layers: Mapping[str, Layer]) -> DType:
    """Return the type of a file's weights; float32 for mixed or other types."""
    types = {str(one.dtype).removeprefix("torch.") for layer in layers.values() for one in (layer.down, layer.up)}
    return types.pop() if len(types) == 1 and types <= {*get_args(DType)} else "float32"


def say_replaced(output: str) -> None:
    """Say that a file is replaced."""
    if Path(output).is_file():
        print(f"{output} was there and is replaced")


def check_output(output: str, inputs: list[str]) -> None:
    """Check that writing does not replace what is read.

    Raises:
        InputError: if it does.
    """
    if os.path.islink(output) and not os.path.exists(output):
        raise InputError(f"{output} is a link that leads nowhere; give output another name")
    target = Path(output).resolve()
    for one in inputs:
        source = Path(one).resolve()
        if target == source or (source.is_dir() and target.is_relative_to(source)):
            raise InputError(f"{output} is, or lies in, what is read ({one}); give output another name")


def described_ranks(ranks: object) -> str:
    """Return `rank 4`, or `ranks 2 to 6`."""
    low, *_, high = sorted({*ranks}) * 2
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def say_change(updates: Mapping[str, Factors], output: str, dtype: DType) -> None:
    """Print by how much the updates in a written file differ from what they should be, if it is more than rounding."""
    written = read_lora(output).layers
    lost = whole = 0.0
    for name, update in updates.items():  # in double, as it cancels
        exact, rounded = (Factors(one.up.double(), one.down.double()) for one in (update, written[name].update))
        difference = stacked([exact, rounded.scaled(-1)])
        lost, whole = lost + max(0.0, inner(difference, difference)), whole + inner(exact, exact)
    changed = (lost / whole) ** 0.5 if whole else 0.0
    if changed > EXACT:
        print(f"{dtype} changes the update by {changed:.2g} of its norm")
