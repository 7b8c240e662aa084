"""Samples while training: what the adapter draws, and what the base draws for the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stylelora.base.conditioning import Conditioning
from stylelora.base.load import load_vae
from stylelora.diffusion.sample import (
    Predict,
    check_guidance,
    decode,
    first_call,
    guided,
    in_turn,
    initial_noise,
    remembered,
    walk,
)
from stylelora.lora.fold import folded
from stylelora.lora.inject import adapter_disabled
from stylelora.lora.read import check_start
from stylelora.lora.text_encoder import TrainedTextEncoder
from stylelora.records import SampleBatch
from stylelora.texts import quoted


class Sampler:
    """Draws samples with an adapter, and once per run the base's.

    Args:
        base: folder or file of the base, whose autoencoder is loaded for the first picture.
        scheduler: any deterministic diffusers scheduler.
        num_inference_steps: denoising steps of prompts that name none.
        guidance_scale: guidance scale of prompts that name none.
        begins: share of the steps that the base makes before the adapter joins.

    Raises:
        InputError: if the guidance scale is no number of at least 0, or the share not 0 to below 1.
    """

    def __init__(
        self, base: Path, scheduler: Any, num_inference_steps: int, guidance_scale: float, begins: float = 0.0
    ) -> None:
        check_guidance(guidance_scale)
        check_start(begins, "the LoRA")
        self.base, self.scheduler, self.begins = base, scheduler, begins
        self.num_inference_steps, self.guidance_scale = num_inference_steps, guidance_scale
        self._vae: nn.Module | None = None
        self._base_images: dict[int, Tensor] = {}  # by index of the samples
        self._base_predictions: dict[tuple, dict[int, Tensor]] = {}  # before the adapter joins, by indices and call

    def forget(self) -> None:
        """Forget the base's pictures, since other prompts come."""
        self._base_images.clear()
        self._base_predictions.clear()

    def draw(self, unet: nn.Module, batch: dict, text_encoder: TrainedTextEncoder | None = None) -> SampleBatch:
        """Draw a data module's batch of prompts of one size, number of steps and guidance scale.

        Args:
            unet: the base's UNet with the adapter.
            batch: `index`, `place`, `prompt`, `content`, `negative_prompt` and `seed`, lists of B; `text`,
                `content_text` and `negative_text`, float (B, T, D), unless the text encoder is trained; `latent_shape`;
                `num_inference_steps` and `guidance_scale` or None.
            text_encoder: the text encoder, if it is trained.
        """
        if any(index not in self._base_images for index in batch["index"]):
            drawn = self._pictures(unet, batch, text_encoder, None)
            self._base_images |= dict(zip(batch["index"], drawn, strict=True))
        base_images = torch.stack([self._base_images[index] for index in batch["index"]])
        images = self._pictures(unet, batch, text_encoder, self.begins)
        names = [batch[name] for name in ("index", "place", "prompt", "content", "seed")]
        return SampleBatch(*names, images, base_images)

    def _pictures(
        self, unet: nn.Module, batch: dict, text_encoder: TrainedTextEncoder | None, begins: float | None
    ) -> Tensor:
        """Draw with the adapter after a share of the steps, or without it."""
        steps, scale = batch["num_inference_steps"], batch["guidance_scale"]
        steps = self.num_inference_steps if steps is None else steps
        scale = self.guidance_scale if scale is None else scale
        parts = unet, batch, text_encoder, scale
        joins = first_call(self.begins, steps, self.scheduler.order)
        known = self._base_predictions.setdefault(tuple(batch["index"]), {})
        stages = {0: partial(_base_predicting, *parts, known, joins)}
        if begins is not None:
            stages[joins] = partial(_predicting, *parts, "")
        device = next(unet.parameters()).device
        start = initial_noise(batch["seed"], batch["latent_shape"]).to(device)
        with in_turn(stages) as predict:
            latents = walk(unet, self.scheduler, start, steps, predict)
        self._vae = (self._vae or load_vae(self.base)).to(device)
        shown = batch["content" if begins is None else "prompt"]
        named = [f"{quoted(text)} (seed {seed})" for text, seed in zip(shown, batch["seed"], strict=True)]
        return decode(self._vae, latents, named)


@contextmanager
def _predicting(
    unet: nn.Module, batch: dict, text_encoder: TrainedTextEncoder | None, scale: float, prefix: str
) -> Iterator[Predict]:
    given = Conditioning.of_batch if text_encoder is None else text_encoder.of_batch
    with adapter_disabled(unet, text_encoder) if prefix else folded(unet):
        yield guided(unet, given(batch, prefix), given(batch, "negative_"), scale)


@contextmanager
def _base_predicting(
    unet: nn.Module,
    batch: dict,
    text_encoder: TrainedTextEncoder | None,
    scale: float,
    known: dict[int, Tensor],
    joins: int,
) -> Iterator[Predict]:
    """Predict without the trigger word; up to the call where the adapter joins only once per run: all is the same."""
    with _predicting(unet, batch, text_encoder, scale, "content_") as predict:
        yield remembered(predict, known, joins)
