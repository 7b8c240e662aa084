"""Sections on sampling, and on what grows with ranks and adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarks.blending import random_adapter
from benchmarks.speed.bases import ATTENTION
from benchmarks.speed.clocks import seconds
from benchmarks.speed.training import CACHED, Bench, interleaved
from stylelora.base.conditioning import Conditioning
from stylelora.base.load import latent_shape, load_scheduler, resolve_base
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.diffusion.sample import decode, denoise, initial_noise

GUIDANCE = 7.5
RANKS = (4, 16, 64, 128)
ADAPTERS = (1, 2, 4, 8)


def in_turn(works: dict[str, Callable[[], object]], repeats: int, device: str) -> dict[str, list[float]]:
    """Time calls in turn, A B C A B C ..., after one of each as warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            taken[name].append(seconds(work, device))
    return {name: values[1:] for name, values in taken.items()}


def with_adapters(unet: nn.Module, count: int, rank: int) -> nn.Module:
    """Add adapters by PEFT and turn all on with equal weights, as diffusers' pipelines do (`set_adapters`)."""
    from peft import LoraConfig

    names = [f"number{i}" for i in range(count)]
    for name in names:
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION)), name)
    unet.set_adapters(names, [1 / count] * count)
    return unet.requires_grad_(False)


class Drawing:
    """What is needed to sample with a base."""

    def __init__(self, bench: Bench) -> None:
        own, folder = bench.settings, resolve_base(bench.base)
        self.device, self.dtype, cuda = own.device, own.dtype, own.device == "cuda"
        self.pictures, self.steps = (1, 10) if cuda else (4, 12) if own.resolution < 100 else (1, 4)
        self.unet, self.scheduler = self._placed(bench.parts.take("unet")), load_scheduler(folder)
        self.width = self.unet.config.cross_attention_dim
        self.start = initial_noise(range(self.pictures), latent_shape(folder, own.resolution, own.resolution)).to(
            own.device
        )

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, self.dtype)

    def embed(self, texts: list[str], _updates: object = None) -> Conditioning:
        """Return random embeddings; speed does not see that."""
        return Conditioning(torch.randn(len(texts), 77, self.width, device=self.device))

    def by(self, blends: Blends, method: str, weights: tuple[float, ...]) -> Callable[[], object]:
        """Return what samples under a condition of the product's."""
        condition, words = Condition(method, weights, self.steps, GUIDANCE), ["a cat"] * self.pictures
        return lambda: sample_condition(
            self.unet, self.scheduler, blends, condition, self.start, words, self.embed, [""]
        )

    def peft(self, unet: nn.Module) -> Callable[[], object]:
        """Return what samples with a UNet as it is."""
        given = self.embed(["a cat"] * self.pictures), self.embed([""])
        return lambda: denoise(unet, self.scheduler, self.start, *given, self.steps, GUIDANCE)


def sampling(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time sampling: the base, one LoRA, a merged blend, PEFT's adapters as pipelines use them, and blends of steps."""
    draw, own = Drawing(bench), bench.settings
    blends = Blends([random_adapter(name, draw.unet, own.rank) for name in ("first", "second")])
    vae = draw._placed(bench.parts.take("vae"))
    works = {
        "the base": draw.by(blends, "sum", (0.0, 0.0)),
        "one LoRA": draw.by(blends, "sum", (1.0, 0.0)),
        "two, merged": draw.by(blends, "sum", (0.6, 0.4)),
        "composite": draw.by(blends, "composite", (0.6, 0.4)),
        "switch": draw.by(blends, "switch", (0.6, 0.4)),
        "one LoRA, as pipelines load it": draw.peft(with_adapters(draw._placed(bench.parts.take("unet")), 1, own.rank)),
        "two, by set_adapters": draw.peft(with_adapters(draw._placed(bench.parts.take("unet")), 2, own.rank)),
        "decoding alone": lambda: decode(vae, draw.start),
    }
    with own.arithmetic():
        taken = in_turn(works, bench.repeats, own.device)
    recipe = {"pictures": draw.pictures, "steps": draw.steps}
    save({"seconds": taken, "resolution": own.resolution, "precision": own.precision, **recipe})


def growth(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time a training step at several ranks, and sampling with several adapters turned on."""
    own = bench.settings
    loops = {f"{rank}": bench.loop(replace(own, rank=rank), CACHED) for rank in RANKS}
    found = {"rank of the adapter that is trained": interleaved(loops, bench.repeats)}
    loops.clear()
    save(found)
    draw = Drawing(bench)
    works = {f"{n}": draw.peft(with_adapters(draw._placed(bench.parts.take("unet")), n, own.rank)) for n in ADAPTERS}
    blends = Blends([random_adapter(f"number{i}", draw.unet, own.rank) for i in range(max(ADAPTERS))])
    works["8, merged"] = draw.by(blends, "sum", (1 / 8,) * 8)
    with own.arithmetic():
        found["adapters while sampling, by set_adapters"] = in_turn(works, bench.repeats, own.device)
    save(found)
