"""Draws pictures of blends with one base; what `predict`, `test` and the mixing desk have in common."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from stylelora.base.clip_skip import clip_skip_of
from stylelora.base.conditioning import Conditioning, encode_texts
from stylelora.base.load import (
    latent_shape,
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    native_resolution,
    resolve_base,
)
from stylelora.base.same_base import doubt_of_base, hash_of_weights
from stylelora.base.zero_terminal_snr import scheduler_for
from stylelora.diffusion.blends import Blends
from stylelora.diffusion.conditions import CONTENT, Condition, sample_condition
from stylelora.diffusion.sample import decode, initial_noise
from stylelora.diffusion.schedulers import other_scheduler, own_scheduler
from stylelora.lora.blend import added, check_adapter
from stylelora.lora.factors import Factors
from stylelora.lora.read import BASE, NO_TRIGGER, Adapter, described
from stylelora.texts import quoted

log = logging.getLogger(__name__)
KEPT_TEXTS = 16


class Painter(nn.Module):
    """Draws prompts under conditions, with a base and adapters.

    Args:
        base: `mini`, a diffusers folder, a single-file checkpoint or a hub id.
        adapters: adapters made for it.
        num_inference_steps: denoising steps, with which the scheduler is tried.
        scheduler: path of a scheduler's class; None: the base's own.
        resolution: side of the pictures in pixels; None: the base's own.
        clip_skip: layer of the text encoder that gives the text embeddings, counted from the end.

    Raises:
        InputError: if the base cannot be loaded, or an adapter or the scheduler does not suit it.
    """

    def __init__(
        self,
        base: str,
        adapters: Sequence[Adapter],
        num_inference_steps: int,
        scheduler: str | None = None,
        resolution: int | None = None,
        clip_skip: int = 1,
    ) -> None:
        super().__init__()
        folder = resolve_base(base)
        self.base, self.clip_skip, self._steps, self._scheduler = base, clip_skip, num_inference_steps, scheduler
        self.picture_side = resolution or native_resolution(folder)
        self.unet, self.vae, self.text_encoder = load_unet(folder), load_vae(folder), load_text_encoder(folder)
        self.tokenizer = load_tokenizer(folder)
        self._weights = hash_of_weights(self.unet)
        self._texts: dict[tuple[str, ...], Conditioning] = {}  # of the last texts, without updates
        self.take(adapters)

    def take(self, adapters: Sequence[Adapter]) -> None:
        """Draw with these adapters from now on.

        Raises:
            InputError: if one does not fit the base, or the scheduler does not suit them; then all stays as it was.
        """
        folder = resolve_base(self.base)
        notes = {one.name: one.metadata for one in adapters}
        own = own_scheduler(folder, self._steps) if self._scheduler is None else load_scheduler(folder)
        scheduler = scheduler_for(notes, own)
        if self._scheduler is not None:
            scheduler = other_scheduler(self._scheduler, scheduler, self._steps)
        for adapter in adapters:
            check_adapter(adapter, self.unet, self.text_encoder, self.base)
            if doubt := self.doubt(adapter):
                log.warning(doubt)
        self.adapters, self.scheduler, self.blends = list(adapters), scheduler, Blends(adapters)

    def doubt(self, adapter: Adapter) -> str | None:
        """Say why an adapter that fits may have been made for another base; None or "" if nothing tells so."""
        return doubt_of_base(adapter.name, adapter.metadata, self._weights, self.base)

    def describe(self, condition: Condition) -> str:
        """Return a condition's weights in words, `watercolor 0.6 + cartoon 0.4`, `base`, or a prompt baseline."""
        if condition.prompt_template != CONTENT:
            return f'"{condition.prompt_template}"'
        regions = condition.options.regions if any(condition.weights) else None
        names = [adapter.name for adapter in self.adapters]
        if regions is not None:
            names = [f"{name} ({Path(region).name})" for name, region in zip(names, regions, strict=True)]
        return described(names, condition.weights) or BASE

    def name(self, condition: Condition) -> str:
        """Return what tells a condition from all others, `watercolor 0.6 + cartoon 0.4, composite, no trigger`."""
        notes = [condition.method] * (condition.method != "sum") + [f"strength {condition.strength:g}"] * (
            condition.strength != 1
        )
        return ", ".join([self.describe(condition), *notes]) + NO_TRIGGER * (not condition.trigger)

    def pictures(
        self, conditions: Sequence[Condition], batch: dict, keys: Sequence[int | str], known: dict | None = None
    ) -> list[dict]:
        """Draw a batch under conditions, all from the same initial noise; a prompt's own steps and guidance win.

        Args:
            conditions: how to draw.
            batch: of `prompt_batch`.
            keys: keys of the initial noise of each picture.
            known: what the base predicted for this batch before any adapter joins; grows.

        Returns:
            a row for each picture, as `ComposedStyles.predict_step` describes.

        Raises:
            InputError: if a condition does not suit the adapters, or what is drawn is not a number.
        """
        width, height = (side or self.picture_side for side in batch["size"])
        shape = latent_shape(resolve_base(self.base), width, height)
        start = initial_noise(keys, shape).to(self.unet.device)
        own = {name: batch[name] for name in ("num_inference_steps", "guidance_scale") if batch[name] is not None}
        rows, known = [], {} if known is None else known
        conditions = [dataclasses.replace(one, **own) for one in conditions]
        for place, condition in enumerate(conditions):
            if own and condition in conditions[:place]:  # they differed in guidance only
                continue
            latents = sample_condition(
                self.unet, self.scheduler, self.blends, condition, start, batch["content"], self.embed,
                batch["negative_prompt"], known,
            )  # fmt: skip
            settings = self._settings(condition)
            of = zip(batch["content"], batch["seed"], strict=True)
            how = f"{settings['condition']}, guidance {condition.guidance_scale:g}"
            named = [f"{quoted(content)} (seed {seed}, {how})" for content, seed in of]
            pictures = decode(self.vae, latents, named)
            samples = (batch[name] for name in ("index", "content", "negative_prompt", "seed"))
            for index, content, negative_prompt, seed, image in zip(*samples, pictures, strict=True):
                prompt = " AND ".join(condition.prompts(self.adapters, content))  # as A1111 writes it
                made = {"index": (index, place), "content": content, "prompt": prompt, "seed": seed}
                rows.append(made | {"negative_prompt": negative_prompt} | settings | {"image": image})
        return rows

    def _settings(self, condition: Condition) -> dict:
        return {
            "condition": self.name(condition), "trigger": condition.trigger, "method": condition.method,
            "weights": list(condition.weights), "label": self.describe(condition), "strength": condition.strength,
            "num_inference_steps": condition.num_inference_steps, "guidance_scale": condition.guidance_scale,
            "scheduler": type(self.scheduler).__name__, "base": self.base,
            "options": dataclasses.asdict(condition.options),
            "adapters": {adapter.name: adapter.sha256 for adapter in self.adapters},
            "starts": {adapter.name: adapter.start for adapter in condition.mix(self.adapters)[1] if adapter.start},
        }  # fmt: skip

    def embed(self, texts: Sequence[str], updates: Mapping[str, Factors]) -> Conditioning:
        """Encode texts with updates of the text encoder."""
        if not updates and (known := self._texts.get(tuple(texts))) is not None:
            return known
        with added(self.text_encoder, updates):
            encoded = encode_texts(self.tokenizer, self.text_encoder, texts, self.clip_skip)
        if not updates:
            self._texts[tuple(texts)] = encoded
            if len(self._texts) > KEPT_TEXTS:
                del self._texts[next(iter(self._texts))]
        return encoded


def doubt_of_clip_skip(adapters: Sequence[Adapter], clip_skip: int) -> str:
    """Say which adapters were trained with another CLIP skip, and what to do; nothing if none was."""
    trained = {one.name: clip_skip_of(one.metadata) for one in adapters}
    if not (other := {name: skip for name, skip in trained.items() if skip not in (None, clip_skip)}):
        return ""
    agreed = {*trained.values()} - {None}
    words = ", ".join(f"{skip} for {name}" for name, skip in other.items())
    advice = f"give --model.clip_skip {agreed.pop()}" if len(agreed) == 1 else "no one value suits all adapters"
    return f"clip_skip is {clip_skip}, but in training it was {words}; {advice}"
