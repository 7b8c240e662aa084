"""Reading, cropping and tiling pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from stylelora.records import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Resampling kernels by the names Pillow gives them.
KERNELS = ("nearest", "box", "bilinear", "bicubic", "lanczos")


def open_picture(path: Path) -> Image.Image:
    """Read a picture upright, as RGB on white.

    Raises:
        InputError: if the file is no readable picture.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a readable picture ({error}); replace or remove it") from error


def fit_square(image: Image.Image, resolution: int, kernel: str) -> Image.Image:
    """Scale the shorter side to `resolution` and crop the middle.

    Args:
        image: RGB.
        resolution: side of the result in pixels.
        kernel: one of KERNELS; `nearest` keeps the pixels of pixel art hard.

    Raises:
        InputError: for an unknown kernel.
    """
    if kernel not in KERNELS:
        raise InputError(f"kernel {kernel!r} is unknown; choose one of {', '.join(KERNELS)}")
    return ImageOps.fit(image, (resolution, resolution), Image.Resampling[kernel.upper()])


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
    left = max(int(font.getlength(name)) for name, _ in rows) + 3 * gap
    size = (left + len(columns) * (width + gap), top + len(rows) * (height + gap))
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    for i, heading in enumerate(columns):
        draw.text((left + i * (width + gap) + width // 2, top // 2), heading, fill="black", font=font, anchor="mm")
    for j, (name, images) in enumerate(rows):
        y = top + j * (height + gap)
        draw.text((gap, y + height // 2), name, fill="black", font=font, anchor="lm")
        for i, image in enumerate(images):
            picture = to_pil(image).resize((width, height), Image.Resampling.NEAREST)
            grid.paste(picture, (left + i * (width + gap), y))
    return grid
