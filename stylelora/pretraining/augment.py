"""Data augmentation of icons for training the embedded base. Batched tensors, global torch RNG.

Shapes: B pictures, 4 = RGBA, 3 = RGB, H = W the side in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flattened(rgba: Tensor, background: Tensor) -> Tensor:
    """Composite icons over backgrounds.

    Args:
        rgba: uint8 (B, 4, H, W).
        background: float (B, 3, H, W) or broadcastable, 0..1.

    Returns:
        float (B, 3, H, W), 0..1.
    """
    rgba = rgba.float() / 255
    return rgba[:, :3] * rgba[:, 3:] + background * (1 - rgba[:, 3:])


def random_outline(rgba: Tensor, p: float) -> Tensor:
    """Add a dark outline of one or two pixels to some icons, uint8 (B, 4, H, W), as in comics; icons lack it."""
    alpha = rgba[:, 3:].float()
    wide = torch.rand(len(rgba), 1, 1, 1, device=rgba.device) < 0.5
    grown = torch.where(wide, F.max_pool2d(alpha, 5, 1, 2), F.max_pool2d(alpha, 3, 1, 1))
    ink = torch.rand(len(rgba), 3, 1, 1, device=rgba.device) * 80
    share = alpha / 255
    outlined = torch.cat([rgba[:, :3] * share + ink * (1 - share), grown], 1).round().to(torch.uint8)
    return torch.where(torch.rand(len(rgba), 1, 1, 1, device=rgba.device) < p, outlined, rgba)


def random_background(count: int, size: int, white: float, device: torch.device | str = "cpu") -> Tensor:
    """Draw backgrounds, float (B, 3, H, W) in 0..1: white with probability `white`, else a gradient of two colours."""
    first, second = torch.rand(2, count, 3, 1, 1, device=device)
    ramp = torch.linspace(0, 1, size, device=device)
    ramp = torch.where(
        torch.rand(count, 1, 1, 1, device=device) < 0.5, ramp.view(1, 1, size, 1), ramp.view(1, 1, 1, size)
    )
    flat = (torch.rand(count, 1, 1, 1, device=device) < 0.7).float()
    colour = first * flat + (first + (second - first) * ramp) * (1 - flat)
    return torch.where(torch.rand(count, 1, 1, 1, device=device) < white, torch.ones(()), colour)


def random_affine(images: Tensor, zoom: tuple[float, float], shift: float, degrees: float, p: float) -> Tensor:
    """Scale, shift and rotate each picture with probability `p`; border colours fill the revealed area."""
    count, device = len(images), images.device
    scale = torch.empty(count, device=device).uniform_(*zoom)
    angle = torch.empty(count, device=device).uniform_(-degrees, degrees).deg2rad()
    move = torch.empty(count, 2, device=device).uniform_(-shift, shift)
    keep = torch.rand(count, device=device) >= p
    scale[keep], angle[keep], move[keep] = 1, 0, 0
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos() / scale
    theta[:, 0, 1] = -angle.sin() / scale
    theta[:, 1, 0] = angle.sin() / scale
    theta[:, :, 2] = move
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _some(images: Tensor, changed: Tensor, p: float) -> Tensor:
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < p, changed, images)


def random_texture(images: Tensor, p: float) -> Tensor:
    """Add textures that icons lack to some pictures: mosaic, grain, blur. Keeps 0..1.

    An autoencoder that has only seen clean icons would wipe out the brush or pixel structure of a style.
    """
    size = images.shape[-1]
    for factor in (2, 4):
        mosaic = F.interpolate(F.avg_pool2d(images, factor), size=size, mode="nearest")
        images = _some(images, mosaic, p / 2)
    grain = torch.randn(len(images), 1, size // 2, size // 2, device=images.device)
    grain = (
        F.interpolate(grain, size=size, mode="bilinear") * 0.6
        + torch.randn(len(images), 1, size, size, device=images.device) * 0.4
    )
    images = _some(images, images + 0.12 * torch.rand(len(images), 1, 1, 1, device=images.device) * grain, p)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return _some(images, blurred, p / 2).clamp(0, 1)


def random_blocks(images: Tensor, p: float) -> Tensor:
    """Pixelate some pictures by 2 or 4; a block takes its corner's colour, so small details survive."""
    for factor in (2, 4):
        blocks = F.interpolate(images[..., ::factor, ::factor], scale_factor=factor, mode="nearest")
        images = _some(images, blocks, p / 2)
    return images


def busy_background(images: Tensor, share: float) -> Tensor:
    """Return backgrounds: for a share of the pictures the next one, enlarged 2.5 to 4 times; else white or a gradient.

    Args:
        images: float (B, 3, H, W), 0..1.
        share: probability of using another picture.
    """
    behind = random_affine(images.roll(1, 0), zoom=(2.5, 4.0), shift=0.3, degrees=180, p=1.0)
    return _some(random_background(len(images), images.shape[-1], white=0.5, device=images.device), behind, share)


def random_colour(images: Tensor, p: float) -> Tensor:
    """Shuffle the colour channels of some pictures; keeps shapes and contrast."""
    order = torch.rand(len(images), 3, device=images.device).argsort(1)
    order = torch.where(
        torch.rand(len(images), 1, device=images.device) < p, order, torch.arange(3, device=images.device)
    )
    return images.gather(1, order[:, :, None, None].expand_as(images))


def random_tone(images: Tensor, p: float) -> Tensor:
    """Change brightness, contrast and saturation of some pictures. Keeps 0..1."""
    count = len(images)
    grey = images.mean(1, keepdim=True)
    gain, saturation = torch.empty(2, count, 1, 1, 1, device=images.device).uniform_(0.5, 1.4)
    offset = torch.empty(count, 1, 1, 1, device=images.device).uniform_(-0.2, 0.2)
    changed = (grey + (images - grey) * saturation - 0.5) * gain + 0.5 + offset
    return _some(images, changed.clamp(0, 1), p)


def random_flip(images: Tensor) -> Tensor:
    """Mirror each picture with probability 1/2."""
    return _some(images, images.flip(-1), 0.5)
