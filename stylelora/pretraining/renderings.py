"""Renderings that change a picture's style but not its content, which the style encoder learns to distinguish.

Each takes and returns float (B, 3, H, W) in 0..1. None of them is one of the four embedded styles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _blurred(images: Tensor, radius: int) -> Tensor:
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _edges(images: Tensor) -> Tensor:
    grey = F.pad(_grey(images), (0, 1, 0, 1), mode="replicate")
    across, down = grey[..., :-1, 1:] - grey[..., :-1, :-1], grey[..., 1:, :-1] - grey[..., :-1, :-1]
    return (across.abs() + down.abs()).clamp(0, 1)


def plain(images: Tensor) -> Tensor:
    """Leave the pictures as they are."""
    return images


def blurred(images: Tensor) -> Tensor:
    """Soften as a lens out of focus does."""
    return _blurred(_blurred(images, 1), 1)


def mosaic(images: Tensor) -> Tensor:
    """Lower the resolution four times, in hard squares."""
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="nearest")


def fine_mosaic(images: Tensor) -> Tensor:
    """Lower the resolution twice and the colours to five per channel, in hard squares."""
    return F.interpolate((F.avg_pool2d(images, 2) * 4).round() / 4, scale_factor=2, mode="nearest")


def posterised(images: Tensor) -> Tensor:
    """Keep three levels per channel."""
    return (images * 2).round() / 2


def grainy(images: Tensor) -> Tensor:
    """Add the grain of film."""
    return (images + 0.13 * torch.randn_like(images[:, :1])).clamp(0, 1)


def sketched(images: Tensor) -> Tensor:
    """Keep the edges only, dark on white."""
    return (1 - 2.5 * _edges(images)).clamp(0, 1).expand(-1, 3, -1, -1)


def inked(images: Tensor) -> Tensor:
    """Draw every edge thick and black, keep the colours."""
    return images * (1 - F.max_pool2d((2.5 * _edges(images)).clamp(0, 1), 3, 1, 1))


def grey(images: Tensor) -> Tensor:
    """Take the colour away."""
    return _grey(images).expand(-1, 3, -1, -1)


def sepia(images: Tensor) -> Tensor:
    """Print in brown on cream."""
    dark, light = torch.tensor([[0.25, 0.13, 0.06], [0.98, 0.92, 0.8]], device=images.device).view(2, 1, 3, 1, 1)
    return dark + (light - dark) * _grey(images)


def washed(images: Tensor) -> Tensor:
    """Pale colours that run into each other, darker where they end."""
    soft = _blurred(_blurred(images, 2), 2)
    return (0.45 + 0.55 * soft - 0.35 * (soft - _blurred(images, 1)).abs()).clamp(0, 1)


def vivid(images: Tensor) -> Tensor:
    """Strong colours, strong contrast."""
    return ((images - _grey(images)) * 1.8 + (_grey(images) - 0.5) * 1.4 + 0.5).clamp(0, 1)


def negative(images: Tensor) -> Tensor:
    """Turn light into dark."""
    return 1 - images


def hatched(images: Tensor) -> Tensor:
    """Shade with diagonal lines."""
    side = torch.arange(images.shape[-1], device=images.device)
    stripes = ((side[:, None] + side[None]) % 4 < 2).float()
    return torch.maximum(1 - stripes, (_grey(images) * 1.2).clamp(0, 1)).expand(-1, 3, -1, -1)


def dotted(images: Tensor) -> Tensor:
    """Print in dots on a grid of four pixels, darker tones in larger dots, colours kept."""
    side = torch.arange(images.shape[-1], device=images.device) % 4 - 1.5
    away = (side[:, None].square() + side[None].square()).sqrt() / 2.2
    tone = F.interpolate(F.avg_pool2d(_grey(images), 4), scale_factor=4, mode="nearest")
    return torch.where(away < 1 - tone, images, torch.ones(()))


def smeared(images: Tensor) -> Tensor:
    """Spread the darkest colour of every neighbourhood, as thick paint does."""
    return -F.max_pool2d(-_blurred(images, 1), 5, 1, 2)


def pastel(images: Tensor) -> Tensor:
    """Mix every colour with cream."""
    cream = torch.tensor([1.0, 0.97, 0.9], device=images.device).view(1, 3, 1, 1)
    return cream * (0.35 + 0.65 * images)


STRUCTURES: tuple[Callable[[Tensor], Tensor], ...] = (
    plain, blurred, mosaic, fine_mosaic, posterised, grainy, sketched, inked, washed, hatched, dotted, smeared,
)  # fmt: skip
TONES: tuple[Callable[[Tensor], Tensor], ...] = (plain, grey, sepia, vivid, pastel, negative)
# A structure, then a tone; colourless structures skip tones that only change colour.
RENDERINGS: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = tuple(
    (structure, tone)
    for structure in STRUCTURES
    for tone in TONES
    if not (structure in (sketched, hatched) and tone in (grey, vivid))
)


def rendered(images: Tensor, number: int) -> Tensor:
    """Return pictures in rendering `number` of RENDERINGS."""
    structure, tone = RENDERINGS[number]
    return tone(structure(images))
