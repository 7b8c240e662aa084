"""Stage 1d: fine-tune the VAE with perceptual and adversarial losses, to preserve lines, blocks and faces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.pretraining.autoencoder import MiniAutoencoder, align_latents
from lightning_modules.pretraining.schedule import adamw_with_decay
from stylelora.pretraining.adversary import EarlyFeatures, critic_loss, deceiving_loss, patch_critic


class MiniSharpAutoencoder(MiniAutoencoder):
    """Fine-tunes a VAE with a jointly trained discriminator and a perceptual loss on early features.

    One backward pass trains both; neither loss sends gradients to the other network.

    Args:
        perceptual_weight: weight of the distance in EfficientNet-Lite0's first blocks (extra `mini`).
        adversarial_weight: weight of the critic's judgement.
    """

    def __init__(self, perceptual_weight: float = 0.3, adversarial_weight: float = 0.03, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = EarlyFeatures().to(memory_format=torch.channels_last)
        self.critic = patch_critic().to(memory_format=torch.channels_last)

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        """Compute the loss on pictures, float (B, 3, H, W) in [-1, 1]."""
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
        """AdamW with low betas, since the discriminator keeps changing; linear decay."""
        return adamw_with_decay(self, self.hparams.lr, self.hparams.plateau, betas=(0.5, 0.9))

    def settle(self, images: Tensor) -> None:
        """Align the latents with the initial VAE's, so that a UNet trained on those can continue."""
        from diffusers import AutoencoderKL

        align_latents(self.vae, AutoencoderKL.from_pretrained(self.hparams.init_from), images)
