"""Repaint a flat icon as a watercolour.

What makes the eye say "watercolour" is listed by Curtis et al., "Computer-Generated Watercolor" (SIGGRAPH 1997):
washes that let the paper shine through, pigment that gathers in a dark line at the edge of a wash, granulation
(pigment that settles in the hollows of the paper), backruns and wet edges. That paper simulates the water; here,
as in Bousseau et al., "Interactive watercolor rendering with temporal coherence and abstraction" (NPAR 2006),
each effect is a change of pigment density instead, and the density turns into colour by absorption
(Beer-Lambert: colour = paper * exp(-density * absorbance)), so that washes laid over each other multiply.

Each flat colour of the icon is a wash with an unsteady outline of its own: neighbours overlap here and leave a sliver
of bare paper there, as under a brush. Effects are a few pixels wide at 256 pixels, so they stay visible at 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageFilter

if TYPE_CHECKING:
    import numpy as np

CANVAS = 256
PAPER = (0.985, 0.965, 0.915)
DRAWING = 204  # the icon's side on the canvas; the rest is room for spreading colour
MAX_PIGMENTS = 12
BACKGROUND_WASHES = ((0.55, 0.77, 0.93), (0.72, 0.86, 0.62), (0.96, 0.82, 0.52), (0.93, 0.68, 0.68), (0.75, 0.7, 0.9))


def noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Smooth noise of about unit variance whose bumps are `scale` pixels apart."""
    import numpy as np

    side = int(CANVAS / scale) + 3
    lattice = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
    field = np.asarray(lattice.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
    return field / max(float(field.std()), 1e-6)


def blur(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a 2-D field; beyond the border the edge value repeats."""
    import numpy as np

    reach = int(3 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(field, [(reach, reach) if axis == k else (0, 0) for k in (0, 1)], mode="edge")
        parts = [np.take(padded, range(k, k + field.shape[axis]), axis=axis) * tap for k, tap in enumerate(taps)]
        field = np.sum(parts, axis=0)
    return field


def warp(field: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Read a 2-D field at positions moved by (dx, dy), linearly interpolated."""
    import numpy as np

    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float64)
    x, y = np.clip(x + dx, 0, CANVAS - 1.001), np.clip(y + dy, 0, CANVAS - 1.001)
    left, top = x.astype(int), y.astype(int)
    fx, fy = x - left, y - top
    upper = field[top, left] * (1 - fx) + field[top, left + 1] * fx
    lower = field[top + 1, left] * (1 - fx) + field[top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def pigments(icon: Image.Image) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split a flat RGBA drawing into (colour, mask) per colour that covers a visible area, largest first."""
    import numpy as np

    pixels = np.asarray(icon).astype(int)
    solid = pixels[..., 3] > 127
    found, counts = np.unique(pixels[solid][:, :3], axis=0, return_counts=True)
    order = [k for k in np.argsort(-counts, kind="stable") if counts[k] > 0.002 * solid.sum()]
    palette = found[order[:MAX_PIGMENTS]]
    nearest = np.abs(pixels[..., None, :3] - palette).sum(-1).argmin(-1) + 1
    # Smoothed edges hold in-between colours; the most common neighbour removes the thin lines they would make.
    labels = Image.fromarray(np.where(solid, nearest, 0).astype(np.uint8)).filter(ImageFilter.ModeFilter(5))
    return [(colour / 255.0, (np.asarray(labels) == k + 1).astype(float)) for k, colour in enumerate(palette)]


def wash(rng: np.random.Generator, mask: np.ndarray, paper: np.ndarray, edge: float = 1.0) -> np.ndarray:
    """Pigment density of one wash over `mask` (0..1), on `paper` (grain height); `edge` scales its dark border."""
    import numpy as np

    spread = [1.7 * noise(rng, 26) + 0.9 * noise(rng, 9) for _ in range(2)]
    mask = warp(mask, *spread)
    wet = 1 / (1 + np.exp(-2.5 * (noise(rng, 60) - 0.8)))  # few places stay wet long enough to bleed
    mask = (1 - wet) * blur(mask, 0.9) + wet * blur(mask, 4.5)
    inside = mask * np.clip(1 - blur(mask, 3.2), 0, 1)  # highest just within the border
    flow = np.clip(0.82 + 0.32 * noise(rng, 70) + 0.2 * noise(rng, 22), 0.25, 1.6)
    # A backrun is a front of water that pushed pigment ahead of it: a dark, ragged line around a paler pool.
    pool = noise(rng, 55) + 0.2 * noise(rng, 8)
    backrun = 0.4 * np.exp(-((pool - 1.0) ** 2) / 0.02) - 0.3 / (1 + np.exp(-9 * (pool - 1.1)))
    grain = np.exp(-0.23 * paper)
    dry = 1 / (1 + np.exp(-6 * (2.3 - paper - 0.8 * noise(rng, 40))))  # the brush skips the highest grain
    return (mask * np.clip(flow + backrun, 0.2, None) + 2.4 * edge * inside) * grain * dry


def splashes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Mask of a few droplets, most of them small."""
    import numpy as np

    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    mask = np.zeros((CANVAS, CANVAS))
    for cx, cy, size in zip(*rng.uniform(8, 248, (2, count)), rng.exponential(2.2, count), strict=True):
        mask = np.maximum(mask, np.hypot(x - cx, y - cy) < 1.8 + min(size, 7))
    return mask


def absorbance(colour: np.ndarray) -> np.ndarray:
    """Absorbance of the pigment nearest to an RGB colour: no white paint, no pure black, cleaner hues."""
    import numpy as np

    vivid = np.clip(colour.mean() + 1.2 * (colour - colour.mean()), 0, 1)
    return -np.log(np.clip(0.985 - 0.9 * (1 - vivid), 0.11, 0.97))


def paint(icon: Image.Image, seed: int, size: int = 128) -> Image.Image:
    """Repaint an icon in watercolour.

    Args:
        icon: RGBA drawing made of flat colours.
        seed: decides all accidents of brush and water.
        size: side of the result in pixels.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    canvas.alpha_composite(icon.resize((DRAWING, DRAWING), Image.Resampling.LANCZOS), ((CANVAS - DRAWING) // 2,) * 2)
    layers = pigments(canvas)
    grain = 0.45 * noise(rng, 2.2) + 0.75 * noise(rng, 5.5) + 0.4 * noise(rng, 11)
    shape = np.clip(sum(mask for _, mask in layers), 0, 1)

    washed = blur(shape, 20) + 0.15 * noise(rng, 64) + 0.04 * noise(rng, 18)
    halo = np.clip((washed - 0.14) * 6, 0, 1) * (1 - shape)
    tint = absorbance(np.array(BACKGROUND_WASHES[rng.integers(len(BACKGROUND_WASHES))]))
    total = (0.55 * wash(rng, blur(halo, 1.5), grain, edge=0.6))[..., None] * tint
    for colour, mask in layers:
        total = total + wash(rng, mask, grain)[..., None] * absorbance(colour)
    drops = wash(rng, splashes(rng, 9) * (shape < 0.5), grain)
    total = total + 0.8 * drops[..., None] * absorbance(layers[rng.integers(min(3, len(layers)))][0])

    pencil = np.abs(blur(warp(shape, *[1.5 * noise(rng, 30) for _ in range(2)]), 1.0) - 0.5) < 0.2
    total = total + (0.3 * pencil * (grain < 0.7))[..., None]
    light = 1 + 0.028 * np.clip(grain - np.roll(grain, 2, axis=(0, 1)), -2, 2)  # grain lit from the upper left
    picture = np.array(PAPER) * light[..., None] * np.exp(-total)
    done = Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))
    return done.resize((size, size), Image.Resampling.LANCZOS)
