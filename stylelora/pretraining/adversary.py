"""What tells a decoded picture from a real one, besides its pixels: a frozen network's early features, and a critic.

As Stable Diffusion's own autoencoder was trained (Esser et al. 2021, section 3.1), at one-eighth scale.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class EarlyFeatures(nn.Module):
    """Distance of two pictures in the first blocks of EfficientNet-Lite0, frozen; where edges and textures are seen.

    Args:
        blocks: how many blocks are run; the output of each is compared.
    """

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        from stylelora.metrics.efficientnet import EfficientNetLite0

        network = EfficientNetLite0().model
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(network._blocks[:blocks])
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EarlyFeatures:
        """Stay in evaluation mode: the means of batch norm are ImageNet's."""
        del mode
        return super().train(False)

    def seen(self, images: Tensor) -> list[Tensor]:
        """Return every block's output, each position's vector of length 1."""
        features, outputs = images, []
        for block in (self.stem, *self.blocks):
            features = block(features)
            outputs.append(F.normalize(features, dim=1, eps=1e-3))
        return outputs

    def forward(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return the mean squared distance of what is seen in pictures float (B, 3, H, W) in [-1, 1]."""
        with torch.no_grad():
            wanted = self.seen(images)
        pairs = zip(self.seen(decoded), wanted, strict=True)
        return sum((one - other).square().sum(1).mean() for one, other in pairs) / len(wanted)


def patch_critic(channels: tuple[int, ...] = (32, 48, 96, 96)) -> nn.Sequential:
    """Build a critic of patches (Isola et al. 2017) whose layers keep lengths (Miyato et al. 2018).

    Returns:
        network from pictures (B, 3, H, W) to judgements (B, 1, H / 4, W / 4), high for real ones.
    """
    strides, layers, width = (1, 2, 2, 1), [], 3
    for wider, stride in zip(channels, strides, strict=True):
        kernel = 3 if stride == 1 else 4
        layers += [spectral_norm(nn.Conv2d(width, wider, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        width = wider
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, 3, 1, 1)))


def critic_loss(critic: nn.Module, decoded: Tensor, images: Tensor) -> Tensor:
    """Return the hinge loss that teaches the critic; no gradient reaches what decoded."""
    judged = critic(torch.cat([images, decoded.detach()]))
    real, false = judged.chunk(2)
    return F.relu(1 - real).mean() + F.relu(1 + false).mean()


def deceiving_loss(critic: nn.Module, decoded: Tensor) -> Tensor:
    """Return what the decoder is taught by: minus the critic's judgement; no gradient reaches the critic."""
    critic.requires_grad_(False)
    judged = critic(decoded)
    critic.requires_grad_(True)
    return -judged.mean()
