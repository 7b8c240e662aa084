"""Blend or collage: do both styles share the whole picture, or has each its own corner?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from stylelora.metrics.attainment import Calibration, attainment
from stylelora.metrics.style import style_similarity
from stylelora.records import InputError


def crops(images: Tensor, grid: int = 3) -> Tensor:
    """Cut each picture into grid x grid crops of one size, row by row.

    Where a side is no multiple of the grid, neighbours leave a gap of a pixel; for crops of different sizes would
    differ in more than their place.

    Args:
        images: uint8 (B, 3, H, W).
        grid: crops on either side, >= 1.

    Returns:
        uint8 (B * grid^2, 3, H // grid, W // grid), all crops of one picture together.

    Raises:
        InputError: other pictures, or fewer pixels than crops.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < grid:
        raise InputError(
            f"Pictures must be uint8 (B, 3, H, W) with at least {grid} pixels on a side, not {images.dtype} "
            f"{tuple(images.shape)}."
        )
    height, width = (side // grid for side in images.shape[2:])
    tops, lefts = (
        np.linspace(0, whole - part, grid).round().astype(int).tolist()
        for whole, part in zip(images.shape[2:], (height, width), strict=True)
    )
    cut = [images[:, :, top : top + height, left : left + width] for top in tops for left in lefts]
    return torch.stack(cut, 1).flatten(0, 1)


def spatial_dispersion(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    references: tuple[Tensor, Tensor],
    calibrations: tuple[Calibration, Calibration],
    grid: int = 3,
) -> np.ndarray:
    """Standard deviation of a_A - a_B over the crops of each picture. High: a collage.

    A picture whose content varies has some of it too: compare with single adapters' pictures (low) and with a
    composite of both by regions (high). The scales are of whole pictures; their zero cancels here.

    Args:
        images: uint8 (B, 3, H, W).
        encode: such as `StyleEncoder().encode_images`: uint8 (N, 3, h, w) to float (N, D).
        references: vectors of held-out pictures of style A, float (N, D), and of style B.
        calibrations: of style A and of style B.
        grid: crops on either side.

    Returns:
        float64 (B,), >= 0.

    Raises:
        InputError: a style is not measurable, or pictures as for `crops`.
    """
    vectors = encode(crops(images, grid))
    first, second = (
        attainment(style_similarity(vectors, style), scale)
        for style, scale in zip(references, calibrations, strict=True)
    )
    return (first - second).reshape(len(images), grid**2).std(1)
