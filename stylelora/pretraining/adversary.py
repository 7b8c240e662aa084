"""Perceptual and adversarial losses of the VAE: early features of a frozen network, and a patch discriminator.

Follows the training of Stable Diffusion's VAE (Esser et al. 2021, section 3.1), at one-eighth scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class EarlyFeatures(nn.Module):
    """Perceptual distance in the first blocks of a frozen EfficientNet-Lite0, which respond to edges and textures.

    Args:
        blocks: number of blocks; the output of each is compared.
    """

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        from stylelora.metrics.efficientnet import EfficientNetLite0

        network = EfficientNetLite0().model
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[:blocks])
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EarlyFeatures:
        """Stay in evaluation mode: batch norm keeps its ImageNet statistics."""
        del mode
        return super().train(False)

    def seen(self, images: Tensor) -> list[Tensor]:
        """Return every block's output, normalised to unit length at each position."""
        features, outputs = images, []
        for block in (self.stem, *self.blocks):
            features = block(features)
            outputs.append(F.normalize(features, dim=1, eps=1e-3))
        return outputs

    def forward(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return the mean squared feature distance of pictures, float (B, 3, H, W) in [-1, 1]."""
        with torch.no_grad():
            wanted = self.seen(images)
        pairs = zip(self.seen(decoded), wanted, strict=True)
        return sum((one - other).square().sum(1).mean() for one, other in pairs) / len(wanted)


def patch_critic(channels: tuple[int, ...] = (32, 48, 96, 96)) -> nn.Sequential:
    """Build a patch discriminator (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018).

    Returns:
        network from pictures (B, 3, H, W) to logits (B, 1, H / 4, W / 4), high for real ones.
    """
    strides, layers, width = (1, 2, 2, 1), [], 3
    for wider, stride in zip(channels, strides, strict=True):
        kernel = 3 if stride == 1 else 4
        layers += [spectral_norm(nn.Conv2d(width, wider, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        width = wider
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, 3, 1, 1)))


def critic_loss(critic: nn.Module, decoded: Tensor, images: Tensor) -> Tensor:
    """Return the discriminator's hinge loss; no gradient reaches the decoder."""
    judged = critic(torch.cat([images, decoded.detach()]))
    real, false = judged.chunk(2)
    return F.relu(1 - real).mean() + F.relu(1 + false).mean()


def deceiving_loss(critic: nn.Module, decoded: Tensor) -> Tensor:
    """Return the decoder's adversarial loss, minus the discriminator's output; no gradient reaches the latter."""
    critic.requires_grad_(False)
    judged = critic(decoded)
    critic.requires_grad_(True)
    return -judged.mean()
