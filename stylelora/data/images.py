"""Resizing, cropping and tiling pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stylelora.files import check_writable, replacing
from stylelora.records import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.PngImagePlugin import PngInfo

#: Resampling filters, by Pillow's names.
INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")


def check_png(path: Path) -> None:
    """Check that a PNG can be written, before the work that it is for.

    Raises:
        InputError: if its name is one of something else.
        OSError: if it cannot be written there.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path} would be a PNG; give it a name that ends in .png")
    check_writable(path)


def save_png(image: Image.Image, path: Path, pnginfo: PngInfo | None = None, sync: bool = True) -> None:
    """Write a picture as a PNG, whole or not at all.

    Args:
        image: picture.
        path: file to write or replace; folders above it are made.
        pnginfo: texts in the file.
        sync: as of `replacing`.
    """
    with replacing(path, sync) as file:
        image.save(file, "PNG", pnginfo=pnginfo)


def check_interpolation(interpolation: str) -> None:
    """Check the name of an interpolation.

    Raises:
        InputError: if it is unknown; the message lists the valid ones.
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"interpolation {interpolation!r} is unknown; choose one of {', '.join(INTERPOLATIONS)}")


def fit(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Resize a picture to cover a size, and centre-crop.

    `nearest` is for pixel art, whose pixels must stay squares of equal size and one colour, so it scales by integer
    factors only: up by the largest factor that fits into the size, or down by the largest d that still covers it,
    taking the central pixel of each d x d block. Any excess is cropped, and any gap is filled.

    Args:
        image: RGB.
        size: width and height of the result in pixels.
        interpolation: one of INTERPOLATIONS.

    Raises:
        InputError: if the interpolation is unknown.
    """
    check_interpolation(interpolation)
    if interpolation != "nearest":
        return ImageOps.fit(image, size, Image.Resampling[interpolation.upper()])
    up = min(size[0] // image.width, size[1] // image.height)
    down = max(1, min(image.width // size[0], image.height // size[1]))
    pixels = np.asarray(image)[down // 2 :: down, down // 2 :: down]
    pixels = pixels.repeat(max(1, up), 0).repeat(max(1, up), 1)
    for axis, side in ((0, size[1]), (1, size[0])):
        # Repeat the border pixels: this adds no colour and, on a plain background, no line.
        before = (side - pixels.shape[axis]) // 2
        pixels = pixels.take(np.arange(-before, side - before), axis, mode="clip")
    return Image.fromarray(pixels)


def lost_share(picture: tuple[int, int], size: tuple[int, int], interpolation: str) -> float:
    """Return the share of a picture's area that `fit` crops away, 0 to below 1.

    Args:
        picture: width and height of the picture.
        size: width and height that it is brought to.
        interpolation: one of INTERPOLATIONS.
    """
    if interpolation == "nearest":
        down = max(1, min(own // side for own, side in zip(picture, size, strict=True)))
        across, upright = (min(1.0, side * down / own) for own, side in zip(picture, size, strict=True))
        return 1 - across * upright
    shape = picture[0] * size[1] / (picture[1] * size[0])
    return 1 - min(shape, 1 / shape)


def degrade(image: Image.Image, source_size: int) -> Image.Image:
    """Crop the centre square and downscale it; each new pixel is the exact mean of the area it covers.

    Args:
        image: RGB.
        source_size: side of the result in pixels.

    Raises:
        InputError: if the picture is smaller than `source_size`.
    """
    side = min(image.size)
    if side < source_size:
        raise InputError(f"a picture of {side} px cannot be reduced to {source_size} px; choose a smaller source_size")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image)[top : top + side, left : left + side].astype(float)
    edges = np.arange(source_size + 1)[:, None] * side / source_size
    # Overlap of each new pixel with each old one along an axis, (source_size, side).
    overlap = np.diff(np.clip(edges - np.arange(side), 0, 1), axis=0)
    for _ in range(2):  # rows, then columns
        pixels = np.tensordot(overlap, pixels, 1).swapaxes(0, 1)
    return Image.fromarray((pixels / (side / source_size) ** 2).round().astype(np.uint8))


def to_tensor(image: Image.Image) -> Tensor:
    """Convert a PIL image to uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_pil(image: Tensor) -> Image.Image:
    """Convert uint8 (3, H, W) to a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def tile(images: Tensor | Sequence[Tensor], columns: int, gap: int = 2) -> Image.Image:
    """Tile pictures, uint8 (N, 3, H, W), row by row on white."""
    height, width = images[0].shape[-2:]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        sheet.paste(to_pil(image), (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return sheet


def labelled_grid(
    rows: Sequence[tuple[str, Sequence[Tensor | None]]], columns: Sequence[str], side: int = 96
) -> Image.Image:
    """Draw a grid of pictures with row and column labels.

    Args:
        rows: label and pictures, uint8 (3, H, W), one per column; None leaves a gap.
        columns: heading of each column.
        side: if pictures are narrower, all are upscaled by an integer factor, nearest neighbour.
    """
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    widths = [image.shape[-1] for _, images in rows for image in images if image is not None]
    factor = max(1, -(-side // min(widths)))
    heights = [factor * max(image.shape[-2] for image in images if image is not None) for _, images in rows]
    gap, top, width = 4, 20, factor * max(widths)
    pitch = max(width, *(int(font.getlength(heading)) + 2 * gap for heading in columns)) + gap
    left = max(int(font.getlength(name)) for name, _ in rows) + 3 * gap
    size = (left + len(columns) * pitch, top + sum(heights) + len(rows) * gap)
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    for i, heading in enumerate(columns):
        draw.text((left + i * pitch + (pitch - gap) // 2, top // 2), heading, fill="black", font=font, anchor="mm")
    y = top
    for (name, images), height in zip(rows, heights, strict=True):
        draw.text((gap, y + height // 2), name, fill="black", font=font, anchor="lm")
        for i, image in enumerate(images):
            if image is not None:
                picture = ImageOps.scale(to_pil(image), factor, Image.Resampling.NEAREST)
                grid.paste(picture, (left + i * pitch + (pitch - gap - picture.width) // 2, y))
        y += height + gap
    return grid
