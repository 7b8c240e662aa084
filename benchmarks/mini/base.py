"""The base under test, as a function from prompts to pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stylelora.base.conditioning import encode_texts
from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    read_config,
    resolve_base,
    sampling_recipe,
)
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.diffusion.sample import decode, initial_noise
from stylelora.lora.read import Adapter

#: Styles with a config in configs/train/mini/, in the order of the tables.
TRAINED = ("watercolor", "cartoon", "anime", "pixelart")


class Base:
    """A base with its default sampling recipe.

    Args:
        name: `mini`, a folder or a hub id.
    """

    def __init__(self, name: str) -> None:
        folder = resolve_base(name)
        self.unet, self.vae, self.encoder = load_unet(folder), load_vae(folder), load_text_encoder(folder)
        self.tokenizer, self.scheduler = load_tokenizer(folder), load_scheduler(folder)
        self.steps, self.guidance_scale = sampling_recipe(folder)
        side = read_config(folder, "unet")["sample_size"]
        self.shape = (self.vae.config.latent_channels, side, side)

    def sample(
        self,
        prompts: Sequence[str],
        seed: int = 0,
        batch_size: int = 16,
        adapters: Sequence[Adapter] = (),
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Generate one picture per prompt, uint8 (N, 3, H, W); noise depends only on (seed, index in the list).

        Adapters are added, with weight 1 unless `weights` says otherwise, with their triggers and from their starts on.
        """
        images, blends = [], Blends(adapters)
        condition = Condition("sum", tuple(weights or (1.0,) * len(adapters)), self.steps, self.guidance_scale)
        for first in range(0, len(prompts), batch_size):
            part = prompts[first : first + batch_size]
            noise = initial_noise([seed * 100_000 + first + i for i in range(len(part))], self.shape)
            latents = sample_condition(self.unet, self.scheduler, blends, condition, noise, part, self._embed)
            images.append(decode(self.vae, latents))
        return torch.cat(images)

    def _embed(self, texts: Sequence[str], _: object) -> Tensor:
        return encode_texts(self.tokenizer, self.encoder, texts)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode pictures uint8 (N, 3, H, W)."""
        parts = (images.float() / 127.5 - 1).split(32)
        return torch.cat([decode(self.vae, self.vae.encode(part).latent_dist.mean) for part in parts])
