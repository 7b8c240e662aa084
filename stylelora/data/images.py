"""Resizing, cropping and tiling pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stylelora.records import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ways to resize, by the names Pillow gives them.
INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")


def check_interpolation(interpolation: str) -> None:
    """Refuse an unknown interpolation.

    Raises:
        InputError: with those there are.
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"interpolation {interpolation!r} is unknown; choose one of {', '.join(INTERPOLATIONS)}")


def fit(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Scale a picture to cover a size and crop the middle.

    `nearest` is for pixel art, whose pixels must stay equal squares of their own colour, so it scales by whole factors
    only: up by the largest that fits into the size, or down, each square of d x d pixels becoming its central one, by
    the largest d that still covers it. What then reaches beyond the size is cropped, what falls short is filled.

    Args:
        image: RGB.
        size: width and height of the result in pixels.
        interpolation: one of INTERPOLATIONS.

    Raises:
        InputError: for an unknown interpolation.
    """
    check_interpolation(interpolation)
    if interpolation != "nearest":
        return ImageOps.fit(image, size, Image.Resampling[interpolation.upper()])
    up = min(size[0] // image.width, size[1] // image.height)
    down = max(1, min(image.width // size[0], image.height // size[1]))
    pixels = np.asarray(image)[down // 2 :: down, down // 2 :: down]
    pixels = pixels.repeat(max(1, up), 0).repeat(max(1, up), 1)
    for axis, side in ((0, size[1]), (1, size[0])):
        # Beyond the border its pixels go on: no colour and, on a plain background, no line that was not there before.
        before = (side - pixels.shape[axis]) // 2
        pixels = pixels.take(np.arange(-before, side - before), axis, mode="clip")
    return Image.fromarray(pixels)


def degrade(image: Image.Image, source_size: int) -> Image.Image:
    """Cut out the middle square and reduce it, each new pixel being the exact mean of the area it covers.

    Args:
        image: RGB.
        source_size: side of the result in pixels.

    Raises:
        InputError: if the picture is smaller than that.
    """
    side = min(image.size)
    if side < source_size:
        raise InputError(f"a picture of {side} px cannot be reduced to {source_size} px; choose a smaller source_size")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side].astype(float)
    edges = np.arange(source_size + 1)[:, None] * side / source_size
    # How much of each old pixel lies in each new one along an axis, (source_size, side).
    overlap = np.diff(np.clip(edges - np.arange(side), 0, 1), axis=0)
    for _ in range(2):  # rows, then columns
        pixels = np.tensordot(overlap, pixels, 1).swapaxes(0, 1)
    return Image.fromarray((pixels / (side / source_size) ** 2).round().astype(np.uint8))


def to_tensor(image: Image.Image) -> Tensor:
    """Return uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_pil(image: Tensor) -> Image.Image:
    """Turn uint8 (3, H, W) into a picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def tile(images: Tensor | Sequence[Tensor], columns: int, gap: int = 2) -> Image.Image:
    """Lay pictures uint8 (N, 3, H, W) out row by row on white."""
    height, width = images[0].shape[-2:]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        sheet.paste(to_pil(image), (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return sheet


def labelled_grid(rows: Sequence[tuple[str, Sequence[Tensor]]], columns: Sequence[str], side: int = 96) -> Image.Image:
    """Lay rows of pictures out with their names, to be looked at.

    Args:
        rows: name and pictures uint8 (3, H, W), as many as there are columns.
        columns: heading of each column.
        side: pictures smaller than this are enlarged by a whole factor, pixels kept hard.
    """
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    first = rows[0][1][0]
    factor = max(1, -(-side // first.shape[-1]))
    height, width = first.shape[-2] * factor, first.shape[-1] * factor
    gap, top = 4, 20
    pitch = max(width, *(int(font.getlength(heading)) + 2 * gap for heading in columns)) + gap
    left = max(int(font.getlength(name)) for name, _ in rows) + 3 * gap
    size = (left + len(columns) * pitch, top + len(rows) * (height + gap))
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    for i, heading in enumerate(columns):
        draw.text((left + i * pitch + (pitch - gap) // 2, top // 2), heading, fill="black", font=font, anchor="mm")
    for j, (name, images) in enumerate(rows):
        y = top + j * (height + gap)
        draw.text((gap, y + height // 2), name, fill="black", font=font, anchor="lm")
        for i, image in enumerate(images):
            picture = to_pil(image).resize((width, height), Image.Resampling.NEAREST)
            grid.paste(picture, (left + i * pitch + (pitch - gap - width) // 2, y))
    return grid
