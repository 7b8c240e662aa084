"""Stage 1d: the autoencoder taught by what eyes see, so that lines, blocks and faces come out as they went in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.pretraining.autoencoder import MiniAutoencoder, align_latents
from lightning_modules.pretraining.schedule import adamw_with_decay
from stylelora.pretraining.adversary import EarlyFeatures, critic_loss, deceiving_loss, patch_critic


class MiniSharpAutoencoder(MiniAutoencoder):
    """Trains an autoencoder further against a critic that learns beside it, and on early features.

    One backward pass teaches both: what the decoder learns leaves the critic alone, and the other way round.

    Args:
        perceptual_weight: weight of the distance in EfficientNet-Lite0's first blocks (extra `mini`).
        adversarial_weight: weight of the critic's judgement.
    """

    def __init__(self, perceptual_weight: float = 0.3, adversarial_weight: float = 0.03, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = EarlyFeatures().to(memory_format=torch.channels_last)
        self.critic = patch_critic().to(memory_format=torch.channels_last)

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        """Loss on pictures float (B, 3, H, W) in [-1, 1]."""
        del batch_idx
        images = images.contiguous(memory_format=torch.channels_last)
        decoded, loss = self.reconstruct(images)
        seen = self.features(decoded, images)
        deceived = deceiving_loss(self.critic, decoded)
        critic = critic_loss(self.critic, decoded, images)
        self.log_dict({"train/seen": seen, "train/critic": critic, "train/deceived": deceived}, prog_bar=True)
        weights = self.hparams
        return loss + weights.perceptual_weight * seen + weights.adversarial_weight * deceived + critic

    def configure_optimizers(self) -> dict:
        """AdamW that forgets fast, since the critic's advice changes; linear decay."""
        return adamw_with_decay(self, self.hparams.lr, self.hparams.plateau, betas=(0.5, 0.9))

    def settle(self, images: Tensor) -> None:
        """Bring the latents back to where they were, so that a UNet trained on them goes on."""
        from diffusers import AutoencoderKL

        align_latents(self.vae, AutoencoderKL.from_pretrained(self.hparams.init_from), images)
