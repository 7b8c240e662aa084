"""The program `convert`: rewrites a LoRA file for other programs."""

from __future__ import annotations

from pathlib import Path

import torch

from stylelora.lora.factors import Factors, Layer, inner, stacked
from stylelora.lora.lora_file import read_lora
from stylelora.lora.names import parts
from stylelora.lora.write import DType, Naming, write_lora
from stylelora.records import InputError


def convert(
    file: str,
    output: str,
    format: Naming = "kohya",
    dtype: DType = "float32",
    alpha: float | None = None,
    unet_only: bool = False,
) -> None:
    """Rewrite a LoRA file for other programs; ranks and the notes of its training stay.

    Args:
        file: LoRA file of any program for Stable Diffusion 1.x or 2.x, or a folder that PEFT wrote.
        output: file to write, *.safetensors; for peft a new folder.
        format: key names: kohya (ComfyUI, A1111, Forge and most others), diffusers or peft.
        dtype: type of the weights: float32, float16 or bfloat16.
        alpha: alpha of a file that does not say it; default: its rank, as other programs take it.
        unet_only: leave out the layers of the text encoder.

    Raises:
        InputError: if the file cannot be read whole, or the output does not suit.
    """
    if Path(output).resolve() == Path(file).resolve():
        raise InputError(f"{output} is the file itself; give output another name")
    given = read_lora(file, alpha)
    layers = given.layers
    if unet_only:
        layers, text = parts(layers)
        print(f"the {len(text)} layers of the text encoder are left out")
    write_lora(Path(output), layers, given.metadata, format, dtype)
    unet, text = (len(part) for part in parts(layers))
    ranks = sorted({layer.rank for layer in layers.values()})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    print(f"{output} holds {unet} layers of the UNet and {text} of the text encoder, of {rank}")
    if changed := _changed(layers, dtype):
        print(f"{dtype} changes the update by {changed:.2g} of its norm")


def _changed(layers: dict[str, Layer], dtype: DType) -> float:
    """Return the relative error of rounding to a type: |dW - rounded dW| / |dW|, in double, as it cancels."""
    to, lost, whole = getattr(torch, dtype), 0.0, 0.0
    for layer in layers.values():
        exact, rounded = (one.update for one in (layer, Layer(layer.down.to(to), layer.up.to(to), layer.alpha)))
        exact, rounded = (Factors(one.up.double(), one.down.double()) for one in (exact, rounded))
        difference = stacked([exact, rounded.scaled(-1)])
        lost, whole = lost + max(0.0, inner(difference, difference)), whole + inner(exact, exact)
    return (lost / whole) ** 0.5 if whole else 0.0
