"""The base under test, as a function from prompts to pictures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

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
from stylelora.diffusion.sample import decode, denoise, initial_noise
from stylelora.lora.blend import added
from stylelora.lora.read import read_adapter


class Base:
    """A base with its default sampling recipe, and an adapter if one is given.

    Args:
        name: `mini`, a folder or a hub id.
        adapter: LoRA file.
    """

    def __init__(self, name: str, adapter: Path | None = None) -> None:
        folder = resolve_base(name)
        self.unet, self.vae, self.encoder = load_unet(folder), load_vae(folder), load_text_encoder(folder)
        self.tokenizer, self.scheduler = load_tokenizer(folder), load_scheduler(folder)
        self.steps, self.guidance_scale = sampling_recipe(folder)
        side = read_config(folder, "unet")["sample_size"]
        self.shape = (self.vae.config.latent_channels, side, side)
        if adapter is not None:
            self.added = ExitStack()  # kept alive, because closing it removes the adapter
            self.added.enter_context(added(self.unet, read_adapter(adapter).unet))

    def sample(self, prompts: list[str], seed: int = 0, batch_size: int = 16) -> Tensor:
        """Generate one picture per prompt, uint8 (N, 3, H, W); noise depends only on (seed, index in the list)."""
        images, empty = [], encode_texts(self.tokenizer, self.encoder, [""])
        for first in range(0, len(prompts), batch_size):
            part = prompts[first : first + batch_size]
            noise = initial_noise([seed * 100_000 + first + i for i in range(len(part))], self.shape)
            text = encode_texts(self.tokenizer, self.encoder, part)
            latents = denoise(self.unet, self.scheduler, noise, text, empty, self.steps, self.guidance_scale)
            images.append(decode(self.vae, latents))
        return torch.cat(images)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode pictures uint8 (N, 3, H, W)."""
        parts = (images.float() / 127.5 - 1).split(32)
        return torch.cat([decode(self.vae, self.vae.encode(part).latent_dist.mean) for part in parts])
