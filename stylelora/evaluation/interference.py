"""The program `interference`: how two adapters affect each other, without generating pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stylelora.base.clip_skip import check_clip_skip
from stylelora.base.conditioning import encode_texts, predict
from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    read_config,
    resolve_base,
)
from stylelora.data.images import check_png, save_png
from stylelora.diffusion.conditions import prompt_of
from stylelora.diffusion.prediction_sums import Term, predict_sum
from stylelora.diffusion.sample import initial_noise
from stylelora.lora.blend import added, blend
from stylelora.lora.factors import Factors, inner
from stylelora.lora.mix import MixSpec
from stylelora.lora.overlap import overlap
from stylelora.lora.read import Adapter, read_adapters
from stylelora.lora.router import routed
from stylelora.precision import same_precision_everywhere
from stylelora.records import InputError

PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")
TIMESTEPS = (900, 700, 400, 100)
MIDDLE = (700, 400)  # for every block
COLUMNS = ("cosine", "inputs", "outputs", "I")


def interference(
    adapters: list[str] | str,
    weights: list[float] | float,
    base: str = "mini",
    output: str | None = None,
    clip_skip: int = 1,
    triggers: list[str] | None = None,
) -> None:
    """Print how much two adapters interfere in the UNet, and draw it block by block.

    Args:
        adapters: two LoRA files of the same base.
        weights: their weights in the blend, such as 0.6 0.4.
        base: base model: mini, a diffusers folder, a single-file checkpoint (.safetensors) or a hub id; the one that
            the adapters were trained on.
        output: PNG of cosine and overlaps by block; default: in runs/interference (as FIRST+SECOND.png).
        clip_skip: the CLIP skip that the adapters were trained with.
        triggers: trigger words, one per adapter, "" for none; default: those that the files state.

    Raises:
        InputError: if there are not two adapters with a weight above 0, or they do not fit the base.
    """
    if output is not None:
        check_png(Path(output))
    given = read_adapters([adapters] if isinstance(adapters, str) else adapters, unet_only=True, triggers=triggers)
    weights = [weights] if isinstance(weights, int | float) else weights
    mix = MixSpec.of([adapter.name for adapter in given], weights)
    if len(mix.names) != 2:
        raise InputError("interference needs two adapters, each with a weight above 0")
    first, second = given = [adapter for adapter in given if adapter.name in mix.names]
    probe = Probe(base, given, clip_skip)
    effects = {t: probe.interaction(given, mix.weights, (t,)) for t in TIMESTEPS}  # raises if an adapter does not fit
    if not (blocks := by_block(first, second)):
        raise InputError(f"{first.name} and {second.name} have no layer in common, so they cannot interfere")
    if alone := len(first.layers.keys() ^ second.layers.keys()):
        print(f"{alone} layers that only one adapter has are left out of the table")
    print(f"measuring {len(blocks)} blocks one by one", flush=True)
    for name, row in blocks.items():
        row["effects"], row["I"] = probe.interaction([_only(one, name) for one in given], mix.weights, MIDDLE)
    print(
        f"{first.name} and {second.name}: cosine of the updates, overlap of their input and output directions, norms,"
    )
    print("effect of the block's updates alone on the predicted noise, relative to it, and their I")
    print("| block | cosine | inputs | outputs | norms | effects | I |\n|---|---|---|---|---|---|---|")
    for name, row in blocks.items():
        numbers = " | ".join(f"{row[column]:.3f}" for column in COLUMNS[:3])
        norms, each = ", ".join(f"{x:.2f}" for x in row["norms"]), ", ".join(f"{x:.3f}" for x in row["effects"])
        print(f"| {name} | {numbers} | {norms} | {each} | {row['I']:.3f} |")
    print("\nThe whole updates, and I(t): how far the sum of updates is from Composite, as share of what it changes")
    print(f"| t | {first.name} | {second.name} | I(t) |\n|---|---|---|---|")
    for t, (norms, ratio) in effects.items():
        print(f"| {t} | {norms[0]:.3f} | {norms[1]:.3f} | {ratio:.3f} |")
    names = f"{first.name}+{second.name}".replace("/", "-")  # a name may start with its folder
    file = Path(output or f"runs/interference/{names}.png")
    save_png(heat_map({name: [row[column] for column in COLUMNS] for name, row in blocks.items()}, COLUMNS), file)
    print(f"open {file}")


def block_of(layer: str) -> str:
    """Return the UNet block of a layer, such as down_blocks.0.attentions.1."""
    return re.match(r"[a-z_]+(\.\d+)?(\.[a-z_]+\.\d+)?", layer).group()


def _only(adapter: Adapter, block: str) -> Adapter:
    layers = {layer: update for layer, update in adapter.layers.items() if block_of(layer) == block}
    return replace(adapter, layers=layers)


def by_block(first: Adapter, second: Adapter) -> dict[str, dict]:
    """Return the cosine of the updates, the mean overlaps of the layers, and the norms for each UNet block."""
    groups: dict[str, list[tuple[Factors, Factors]]] = {}
    for layer, update in first.layers.items():
        if layer in second.layers:
            groups.setdefault(block_of(layer), []).append((update, second.layers[layer]))
    rows = {}
    for block, pairs in groups.items():
        found = [overlap(a, b) for a, b in pairs]
        norms = [sum(one.norms[i] ** 2 for one in found) ** 0.5 for i in (0, 1)]
        rows[block] = {
            "cosine": sum(inner(a, b) for a, b in pairs) / max(norms[0] * norms[1], 1e-30),
            "inputs": sum(one.inputs for one in found) / len(found),
            "outputs": sum(one.outputs for one in found) / len(found),
            "norms": norms,
        }
    return rows


class Probe:
    """A base with fixed prompts and noise for measuring the effect of updates.

    Every prompt has the trigger words of all adapters, so that nothing but the updates differs.

    Args:
        base: mini, a folder, a file or a hub id.
        adapters: their trigger words.
        clip_skip: as of `encode_texts`.
    """

    def __init__(self, base: str, adapters: Sequence[Adapter], clip_skip: int = 1) -> None:
        same_precision_everywhere()
        folder = resolve_base(base)
        check_clip_skip(folder, clip_skip)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.unet, self.scheduler = load_unet(folder).to(self.device), load_scheduler(folder)
        prompts = [prompt_of(adapters, prompt) for prompt in PROMPTS]
        given = encode_texts(load_tokenizer(folder), load_text_encoder(folder), prompts, clip_skip)
        self.prompts = given.to(self.device)
        side = read_config(folder, "unet")["sample_size"]
        self.noise = initial_noise(range(len(prompts)), (self.unet.config.in_channels, side, side)).to(self.device)
        self._plain: dict[int, Tensor] = {}

    @torch.no_grad()
    def predicted(self, t: int, updates: dict[str, Factors]) -> Tensor:
        """Return the noise predicted for an empty latent, a start that suits any base, float (B, C, H, W)."""
        with added(self.unet, updates):
            return predict(self.unet, self._input(t), torch.tensor(t), self.prompts)

    def _input(self, t: int) -> Tensor:
        return self.noise * (1 - self.scheduler.alphas_cumprod[t]).sqrt()

    @torch.no_grad()
    def interaction(
        self, adapters: Sequence[Adapter], weights: Sequence[float], timesteps: Sequence[int]
    ) -> tuple[list[float], float]:
        """Return each adapter's effect and the interaction ratio, with norms over all timesteps.

        The effect of adapter i is ||eps_i - eps_0|| / ||eps_0||, at strength 1. I = ||eps(sum w_i dW_i) - sum pi_i
        eps(s dW_i)|| / ||eps(sum w_i dW_i) - eps_0||: 0 if blending weights equals averaging predictions.
        """
        mix = MixSpec.of([adapter.name for adapter in adapters], weights)
        scaled = [{name: u.scaled(mix.strength) for name, u in adapter.layers.items()} for adapter in adapters]
        summed = blend(adapters, weights)
        squares = torch.zeros(len(adapters) + 3, dtype=torch.float64)
        for t in timesteps:
            if t not in self._plain:
                self._plain[t] = self.predicted(t, {})
            plain, total = self._plain[t], self.predicted(t, summed)
            with routed(self.unet, scaled) as router:
                terms = [Term(i, self.prompts, share) for i, share in enumerate(mix.shares)]
                averaged = predict_sum(self.unet, router, self._input(t), torch.tensor(t), terms, batched=False)
            changes = [*(self.predicted(t, adapter.layers) - plain for adapter in adapters), plain]
            changes += [total - averaged, total - plain]
            squares += torch.stack([change.double().square().sum() for change in changes]).cpu()
        norms = squares.sqrt()
        return (norms[: len(adapters)] / norms[-3]).tolist(), float(norms[-2] / norms[-1])


def heat_map(rows: dict[str, list[float]], columns: Sequence[str]) -> Image.Image:
    """Draw a heat map of numbers in -1..1: blue below 0, red above, each cell labelled with its number."""
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
