"""Image quality measures: native pixel grid, sharpness, required upscaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Largest cell size searched in pictures with compression noise; without noise any size is found.
MAX_CELL = 64
#: Shorter side at which sharpness is measured. Larger pictures are smoother per pixel, so raw values at different sizes
#: are not comparable; 512 is the training resolution of Stable Diffusion 1.5.
SHARPNESS_SIDE = 512
# Grey differences up to this count as compression noise.
_NOISE = 16
# Minimum share of the squared changes on the lattice. Measured: of enlarged pixel art as JPEG of quality 75 at
# least 0.97; of what a smooth kernel enlarged at most 0.84, of a lattice twice too wide 0.71, of photos 0.6.
_LATTICE_SHARE = 0.96
# The evidence asked for, see native_grid. The contrast is above the block borders of very strong compression.
_BITS = 24
_EDGES = 32
_CONTRAST = 48


@dataclass(frozen=True)
class Grid:
    """The cells of enlarged pixel art.

    Attributes:
        cell: side of a cell in pixels, at least 2.
        offset: x and y of the first whole cell's corner, 0..cell-1; above 0 in a crop that begins within a cell.
        size: whole cells across and down.
    """

    cell: int
    offset: tuple[int, int]
    size: tuple[int, int]


def native_grid(image: Image.Image) -> Grid | None:
    """Find the native pixel grid of pixel art enlarged by an integer factor.

    The grid has the largest cell such that colours change only between cells. Without compression noise this must hold
    exactly; otherwise 96 % of the squared grey changes, ignoring those up to 16 of 255, must lie on one lattice.

    Required evidence: at least 32 separate edges between cells, changes of more than 16 (with noise 48) of 255;
    and the n lines that carry them must not lie on a lattice by chance. If they lay at random, one line per axis being
    free, they would do so with probability cell^-(n - 2), which must be below 2^-24: 27 lines for a cell of 2, 11 for
    one of 8. Flat pictures, stripes, frames and a few rectangles have no grid.

    Args:
        image: of any mode with 8 bits per channel; transparency is ignored.

    Returns:
        the grid, or None if the picture is not enlarged pixel art or gives too little evidence.
    """
    image = image.convert("RGB")
    rgb = np.asarray(image)
    colours = np.asarray(image.convert("RGBA")).view(np.uint32)[..., 0]  # one integer per pixel compares faster
    for step in (16, 1):  # every 16th row and column rules out most pictures quickly
        lines = [np.flatnonzero((a[::step] != b[::step]).any(0)) + 1 for a, b in _neighbours(colours)]
        cell = int(np.gcd.reduce(np.concatenate([np.diff(axis) for axis in lines])))
        if cell == 1:
            return _noisy_grid(rgb, np.asarray(image.convert("L")))
    if cell == 0:
        return None
    grid = _grid(rgb, cell, [int(axis[0]) if axis.size else 0 for axis in lines])
    return grid if _enough_evidence(rgb, grid, _NOISE) else None


def _noisy_grid(rgb: np.ndarray, grey: np.ndarray) -> Grid | None:
    profiles = []  # per axis, squared changes by the first coordinate after the change
    for before, after in _neighbours(grey):
        change = (np.maximum(before, after) - np.minimum(before, after)).astype(np.uint16)
        change *= change > _NOISE
        change *= change  # at most 255 * 255, which uint16 holds
        profiles.append(np.pad(change.sum(0, dtype=np.int64), (1, 0)))
    total = sum(profile.sum() for profile in profiles)
    for cell in range(MAX_CELL, 1, -1):
        phases = [np.pad(profile, (0, -len(profile) % cell)).reshape(-1, cell).sum(0) for profile in profiles]
        if sum(phase.max() for phase in phases) >= _LATTICE_SHARE * total > 0:
            grid = _grid(rgb, cell, [int(phase.argmax()) for phase in phases])
            return grid if _enough_evidence(rgb, grid, _CONTRAST) else None
    return None


def _neighbours(pixels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pair each pixel with its neighbour along x, then along y; axis 1 is the direction of the pair."""
    return [(axis[:, :-1], axis[:, 1:]) for axis in (pixels, pixels.swapaxes(0, 1))]


def _grid(rgb: np.ndarray, cell: int, start: list[int]) -> Grid:
    x, y = (line % cell for line in start)
    return Grid(cell, (x, y), ((rgb.shape[1] - x) // cell, (rgb.shape[0] - y) // cell))


def _enough_evidence(rgb: np.ndarray, grid: Grid, contrast: int) -> bool:
    """Count lines and separate edges between cell centres; changes up to `contrast` are ignored."""
    (x, y), half, (columns, rows) = grid.offset, grid.cell // 2, grid.size
    middles = rgb[y + half :: grid.cell, x + half :: grid.cell][:rows, :columns].astype(np.int16)
    lines, edges, changed, borders = [], 0, 0, 0
    for before, after in _neighbours(middles):
        changes = (np.abs(after - before) > contrast).any(2)
        lines.append(np.count_nonzero(changes.any(0)))
        edges += np.count_nonzero(changes[:1]) + np.count_nonzero(changes[1:] & ~changes[:-1])
        changed, borders = changed + np.count_nonzero(changes), borders + changes.size
    many = edges >= _EDGES or 2 * changed >= borders  # where every cell differs from the next, edges run together
    return min(lines) >= 2 and many and (sum(lines) - 2) * np.log2(grid.cell) > _BITS


def to_native(image: Image.Image, grid: Grid) -> Image.Image:
    """Reduce enlarged pixel art to one pixel per whole cell; cells cut by the border are dropped.

    Each pixel is its cell's median per channel: exact for flat cells and robust to compression noise.

    Args:
        image: RGB.
        grid: grid of this picture.

    Returns:
        RGB, `grid.size` pixels.
    """
    (x, y), (columns, rows), cell = grid.offset, grid.size, grid.cell
    whole = np.asarray(image.convert("RGB"))[y : y + rows * cell, x : x + columns * cell]
    cells = whole.reshape(rows, cell, columns, cell, 3).swapaxes(1, 2).reshape(rows, columns, cell * cell, 3)
    return Image.fromarray(np.median(cells, axis=2).round().astype(np.uint8))


def sharpness(image: Image.Image) -> float:
    """Sharpness as the variance of the Laplacian; blur lowers it.

    The kernel is [[0, 1, 0], [1, -4, 1], [0, 1, 0]] with the border repeated, on luma of ITU-R 601 in 0..255, after
    reduction (Lanczos, never enlargement) to a shorter side of 512 pixels. This is the usual blur check,
    cv2.Laplacian(grey, cv2.CV_64F).var() except at the border, after Pech-Pacheco et al. 2000, "Diatom autofocusing in
    brightfield microscopy".

    Returns:
        0 for a flat picture; no upper bound in practice.
    """
    from scipy.ndimage import laplace

    scale = min(1.0, SHARPNESS_SIDE / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    grey = image.convert("L").resize(size, Image.Resampling.LANCZOS)
    return float(laplace(np.asarray(grey, dtype=np.float32), mode="nearest").var())


def enlargement(size: tuple[int, int], resolution: int) -> float:
    """Return the upscaling factor of the shorter side to reach `resolution`; 1.0 if none is needed.

    Args:
        size: width and height in pixels.
        resolution: training resolution in pixels.
    """
    return max(1.0, resolution / min(size))
