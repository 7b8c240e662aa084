"""Pictures of blended adapters."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from stylelora.base.load import (
    check_resolution,
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    read_config,
    resolve_base,
    sampling_recipe,
)
from stylelora.base.text import embed_texts
from stylelora.diffusion.arms import Arm, BlendOptions, SamplingMethod, check_arm, sample_arm
from stylelora.diffusion.sample import decode, initial_noise
from stylelora.lora.blend import check_fit, read_adapters
from stylelora.lora.compose import Method
from stylelora.records import InputError


class ComposedStyles(L.LightningModule):
    """Blends adapters by weight, and makes what every prompt looks like with every weighting and method.

    Args:
        adapters: LoRA files of one base.
        weights: one list per blend, of one weight per adapter, such as [[1, 0], [0.6, 0.4], [0, 1]].
        base: `mini`, a folder in diffusers' layout, or a hub id; the one the adapters were made for.
        methods: sum, ties, dare, knots_ties, tsv_m, iso_c, np_lora (in weight space), composite, anchored, switch,
            k_lora (while sampling); every blend is made with each.
        strengths: every blend is made with its weights multiplied by each of these.
        guidances: classifier-free guidance scales, every blend is made with each; null: the one that suits the base.
        options: of the methods.
        steps: denoising steps; null: what suits the base.
        scheduler: class path such as diffusers.EulerDiscreteScheduler; null: the base's.
        resolution: side in pixels; null: the base's own.
    """

    def __init__(
        self,
        adapters: list[str],
        weights: list[list[float]],
        base: str = "mini",
        methods: list[Method | SamplingMethod] = ["sum"],  # noqa: B006
        strengths: list[float] = [1.0],  # noqa: B006
        guidances: list[float] | None = None,
        options: BlendOptions = BlendOptions(),
        steps: int | None = None,
        scheduler: str | None = None,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        folder = resolve_base(base)
        suited = sampling_recipe(folder)
        steps, guidances = suited[0] if steps is None else steps, [suited[1]] if guidances is None else guidances
        if resolution is not None:
            check_resolution(folder, resolution)
        if not (weights and methods and strengths and guidances):
            raise InputError("give at least one list of weights, one method, one strength and one guidance")
        self.adapters = read_adapters(adapters)
        nothing = (0.0,) * len(adapters)
        self.arms = [Arm("sum", nothing, steps, guidance) for guidance in guidances] + [
            Arm(method, tuple(amounts), steps, guidance, strength, options=options)
            for method, guidance, strength, amounts in itertools.product(methods, guidances, strengths, weights)
        ]
        for arm in self.arms:
            check_arm(arm, self.adapters)
        self.unet, self.vae, self.text_encoder = load_unet(folder), load_vae(folder), load_text_encoder(folder)
        self.tokenizer = load_tokenizer(folder)
        self.scheduler = load_scheduler(folder)
        if scheduler is not None:
            self.scheduler = other_scheduler(scheduler, self.scheduler, steps)
        for adapter in self.adapters:
            check_fit(self.unet, adapter.layers)
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = resolution // factor if resolution else read_config(folder, "unet")["sample_size"]
        self.latent_shape = (self.vae.config.latent_channels, side, side)

    def describe(self, arm: Arm) -> str:
        """Return an arm's weights in words, `watercolor 0.6 + cartoon 0.4`, or `base`."""
        parts = [f"{a.name} {w:g}" for a, w in zip(self.adapters, arm.weights, strict=True) if w]
        return " + ".join(parts) or "base"

    def predict_step(self, batch: dict, batch_idx: int) -> list[dict]:
        """Make the pictures of all arms from the same initial noise.

        Returns:
            a row for each prompt and arm: `index` (place of the prompt, place of the arm), `content`, `prompt`, `seed`,
            `method`, `label` and `weights` before they are multiplied by `strength`, `steps`, `guidance`, `scheduler`,
            `options`, and `image`, uint8 (3, H, W).
        """
        del batch_idx
        rows, start = [], initial_noise(batch["seed"], self.latent_shape).to(self.device)
        embed = functools.partial(embed_texts, self.tokenizer, self.text_encoder)
        for place, arm in enumerate(self.arms):
            latents = sample_arm(self.unet, self.scheduler, self.adapters, arm, start, batch["content"], embed)
            settings = {
                "method": arm.method, "weights": list(arm.weights), "label": self.describe(arm),
                "strength": arm.strength, "steps": arm.steps, "guidance": arm.guidance,
                "scheduler": type(self.scheduler).__name__, "base": self.hparams.base,
                "options": dataclasses.asdict(arm.options),
                "adapters": {adapter.name: adapter.sha256 for adapter in self.adapters},
            }  # fmt: skip
            pictures = decode(self.vae, latents)
            for index, content, seed, image in zip(
                batch["index"], batch["content"], batch["seed"], pictures, strict=True
            ):
                prompt = " AND ".join(arm.prompts(self.adapters, content))  # as A1111 writes it
                made = {"index": (index, place), "content": content, "prompt": prompt, "seed": seed}
                rows.append(made | settings | {"image": image})
        return rows


def other_scheduler(path: str, like: Any, steps: int) -> Any:
    """Return a diffusers scheduler with the settings of another, tried out on a few numbers.

    Args:
        path: of the class.
        like: the base's own.
        steps: of the walk.

    Raises:
        InputError: if there is none, it does not suit the base, or it draws noise of its own: then a picture's seed
            would not decide it.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"scheduler {path!r} is not there; give a class such as diffusers.DDIMScheduler") from error
    try:
        scheduler = found.from_config(like.config)
        numbers = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
        with torch.random.fork_rng(devices=[]):
            tried = [_tried(scheduler, numbers, steps) for _ in range(2)]
    except Exception as error:  # each class has its own
        raise InputError(f"{path} does not suit this base; give a class such as diffusers.DDIMScheduler") from error
    if not torch.equal(*tried):
        raise InputError(f"{path} draws noise of its own; give a deterministic one such as diffusers.DDIMScheduler")
    return scheduler


def _tried(scheduler: Any, numbers: Tensor, steps: int) -> Tensor:
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        numbers = scheduler.step(scheduler.scale_model_input(numbers, t) / 2, t, numbers).prev_sample
    return numbers
