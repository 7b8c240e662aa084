"""What two adapters do to each other, told before any picture is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    read_config,
    resolve_base,
)
from stylelora.base.text import embed_texts
from stylelora.diffusion.arms import prompt_of
from stylelora.diffusion.composite import Term, predict_sum
from stylelora.diffusion.sample import initial_noise
from stylelora.lora.blend import Adapter, added, blend, read_adapters
from stylelora.lora.compose import MixSpec
from stylelora.lora.factors import Factors, inner
from stylelora.lora.interference import interference as compare
from stylelora.lora.router import routed
from stylelora.records import InputError

PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")
TIMESTEPS = (900, 700, 400, 100)
COLUMNS = ("cosine", "inputs", "outputs")


def interference(
    adapters: list[str],
    weights: list[float],
    base: str = "mini",
    output: str = "interference.png",
) -> None:
    """Print how much two adapters get in each other's way, and draw it block by block.

    Args:
        adapters: two LoRA files of one base.
        weights: of the blend.
        base: the base they were made for: mini, a folder or a hub id.
        output: PNG of cosine and overlaps by block.

    Raises:
        InputError: if there are not two adapters with a weight above 0, or they do not fit the base.
    """
    given = read_adapters(adapters)
    mix = MixSpec.of([adapter.name for adapter in given], weights)
    if len(mix.names) != 2:
        raise InputError("interference is of two adapters, each with a weight above 0")
    first, second = given = [adapter for adapter in given if adapter.name in mix.names]
    effects = interaction(given, mix.weights, base)  # first, since it refuses what does not fit
    if not (blocks := by_block(first, second)):
        raise InputError(f"{first.name} and {second.name} have no layer in common, so they cannot interfere in one")
    if alone := len(first.layers.keys() ^ second.layers.keys()):
        print(f"{alone} layers that only one of both has are left out of the table of blocks")
    print(f"{first.name} and {second.name}: cosine of the updates, overlap of their input and output directions, norms")
    print("| block | cosine | inputs | outputs | norms |\n|---|---|---|---|---|")
    for name, row in blocks.items():
        numbers = " | ".join(f"{row[column]:.3f}" for column in COLUMNS)
        print(f"| {name} | {numbers} | {row['norms'][0]:.2f}, {row['norms'][1]:.2f} |")
    print("\nEffect on the predicted noise, relative to it, and I(t): how far the sum of updates is from Composite")
    print(f"| t | {first.name} | {second.name} | I(t) |\n|---|---|---|---|")
    for t, (norms, ratio) in effects.items():
        print(f"| {t} | {norms[0]:.3f} | {norms[1]:.3f} | {ratio:.3f} |")
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    heat_map({name: [row[column] for column in COLUMNS] for name, row in blocks.items()}, COLUMNS).save(output)
    print(f"look at {output}")


def by_block(first: Adapter, second: Adapter) -> dict[str, dict]:
    """Return for each block of the UNet the cosine of the updates, the mean overlaps of its layers, and the norms."""
    groups: dict[str, list[tuple[Factors, Factors]]] = {}
    for layer, update in first.layers.items():
        if layer in second.layers:
            block = re.match(r"[a-z_]+(\.\d+)?(\.[a-z_]+\.\d+)?", layer).group()
            groups.setdefault(block, []).append((update, second.layers[layer]))
    rows = {}
    for block, pairs in groups.items():
        found = [compare(a, b) for a, b in pairs]
        norms = [sum(one.norms[i] ** 2 for one in found) ** 0.5 for i in (0, 1)]
        rows[block] = {
            "cosine": sum(inner(a, b) for a, b in pairs) / max(norms[0] * norms[1], 1e-30),
            "inputs": sum(one.inputs for one in found) / len(found),
            "outputs": sum(one.outputs for one in found) / len(found),
            "norms": norms,
        }
    return rows


@torch.no_grad()
def interaction(
    adapters: Sequence[Adapter], weights: Sequence[float], base: str
) -> dict[int, tuple[list[float], float]]:
    """Return effect norms and the interaction ratio at some timesteps, on fixed prompts and noise.

    The effect of adapter i is ||eps_i - eps_0|| / ||eps_0||, at strength 1. I(t) = ||eps(sum w_i dW_i) - sum pi_i
    eps(s dW_i)|| / ||eps(sum w_i dW_i) - eps_0||: 0 where blending weights and averaging predictions are the same.
    Every prompt has both trigger words, so that nothing but the updates differs.
    """
    folder = resolve_base(base)
    unet, encoder, tokenizer = load_unet(folder), load_text_encoder(folder), load_tokenizer(folder)
    mix = MixSpec.of([adapter.name for adapter in adapters], weights)
    prompts = [prompt_of(adapters, prompt) for prompt in PROMPTS]
    text = embed_texts(tokenizer, encoder, prompts)
    side = read_config(folder, "unet")["sample_size"]
    noise = initial_noise(range(len(prompts)), (unet.config.in_channels, side, side))
    scheduler = load_scheduler(folder)
    found = {}
    for t in TIMESTEPS:
        timestep = torch.tensor(t)
        x = noise * (1 - scheduler.alphas_cumprod[t]).sqrt()  # of an empty latent, which any base can start from

        def alone(updates: dict[str, Factors], x: Tensor = x, timestep: Tensor = timestep) -> Tensor:
            with added(unet, updates):
                return unet(x, timestep, encoder_hidden_states=text).sample

        plain = alone({})
        norms = [float((alone(adapter.layers) - plain).norm() / plain.norm()) for adapter in adapters]
        summed = alone(blend(adapters, weights))
        scaled = [{name: u.scaled(mix.strength) for name, u in adapter.layers.items()} for adapter in adapters]
        with routed(unet, scaled) as router:
            terms = [Term(i, text, share) for i, share in enumerate(mix.shares)]
            averaged = predict_sum(unet, router, x, timestep, terms, batched=False)
        found[t] = (norms, float((summed - averaged).norm() / (summed - plain).norm()))
    return found


def heat_map(rows: dict[str, list[float]], columns: Sequence[str]) -> Image.Image:
    """Draw numbers of -1..1 as cells, blue below 0 and red above, with the numbers in them."""
    font, height, width = ImageFont.load_default(12), 22, 76
    left = max(int(font.getlength(name)) for name in rows) + 16
    picture = Image.new("RGB", (left + width * len(columns) + 8, height * (len(rows) + 1) + 8), "white")
    draw = ImageDraw.Draw(picture)
    for i, column in enumerate(columns):
        draw.text((left + width * (i + 0.5), height / 2), column, "black", font, anchor="mm")
    for j, (name, values) in enumerate(rows.items(), start=1):
        draw.text((8, height * (j + 0.5)), name, "black", font, anchor="lm")
        for i, value in enumerate(values):
            pale = round(255 * (1 - min(1.0, abs(value))))
            colour = (255, pale, pale) if value >= 0 else (pale, pale, 255)
            corner = (left + width * i, height * j)
            draw.rectangle((*corner, corner[0] + width - 2, corner[1] + height - 2), colour)
            middle = (corner[0] + width / 2, corner[1] + height / 2)
            draw.text(middle, f"{value:.2f}", "black", font, anchor="mm")
    return picture
