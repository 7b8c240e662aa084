"""Recolour icons by colour name, and name the main colour of a picture.

Recolouring gives the embedded base correct captions ("a green apple"); naming evaluates what it then draws. The two
share only the names: one rotates hues, the other counts pixels.
"""

from __future__ import annotations

import numpy as np

#: name -> RGB 0..255 of its middle tone.
COLOURS = {
    "red": (215, 40, 45),
    "orange": (245, 140, 30),
    "yellow": (250, 210, 45),
    "green": (60, 165, 70),
    "blue": (45, 110, 215),
    "purple": (130, 70, 185),
    "pink": (245, 130, 180),
    "brown": (130, 80, 45),
    "black": (45, 45, 50),
    "grey": (145, 148, 152),
}
_LUMA = np.array([0.299, 0.587, 0.114])
_BINS = 12


def hue_saturation_value(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue 0..360, saturation 0..1 and value 0..1, each float (...), of RGB 0..255, (..., 3)."""
    rgb = rgb.astype(np.float64) / 255
    high, low = rgb.max(-1), rgb.min(-1)
    span = np.where(high > low, high - low, 1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    sextant = np.where(
        high == red,
        (green - blue) / span % 6,
        np.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    return (
        np.where(high > low, sextant * 60, 0.0),
        np.where(high > 0, (high - low) / np.where(high > 0, high, 1), 0),
        high,
    )


def recolour(rgba: np.ndarray, colour: str) -> np.ndarray:
    """Replace an icon's main colour, keeping its shading and all other colours.

    The main colour is the most frequent of twelve hues, or grey if greys cover more than all hues together.

    Args:
        rgba: uint8 (H, W, 4).
        colour: key of COLOURS.

    Returns:
        uint8 (H, W, 4), alpha unchanged.
    """
    rgb, alpha = rgba[..., :3].astype(np.float64), rgba[..., 3] / 255
    hue, saturation, value = hue_saturation_value(rgb)
    grey = (saturation < 0.18) | (value < 0.12)
    counts = np.bincount((hue * _BINS / 360).astype(int).ravel() % _BINS, (alpha * ~grey).ravel(), _BINS)
    if counts.sum() < (alpha * grey).sum():
        chosen = np.where(grey & (value > 0.25), 1.0, 0.0)  # keep dark outlines, eyes and tyres
    else:
        peak = (counts.argmax() + 0.5) * 360 / _BINS
        away = np.abs((hue - peak + 180) % 360 - 180)
        chosen = np.where(grey, 0.0, np.clip((50 - away) / 15, 0, 1))
    luma = rgb @ _LUMA / 255
    share = chosen * alpha
    middle = np.clip((luma * share).sum() / max(share.sum(), 1e-6), 0.08, 0.92)
    shade, shine = np.clip(luma / middle, 0, 1), np.clip((luma - middle) / (1 - middle), 0, 1)
    painted = np.array(COLOURS[colour]) * shade[..., None]
    painted += (255 - painted) * 0.6 * shine[..., None]
    mixed = rgb + (painted - rgb) * chosen[..., None]
    return np.dstack([mixed.round().astype(np.uint8), rgba[..., 3]])


def colour_name(image: np.ndarray) -> str:
    """Name the dominant colour of the object in a picture on white.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        key of COLOURS, or "white".
    """
    hue, saturation, value = hue_saturation_value(image)
    thing = (saturation > 0.12) | (value < 0.88)
    if thing.sum() < 0.02 * thing.size:
        return "white"
    hue, saturation, value = hue[thing], saturation[thing], value[thing]
    names = np.full(hue.shape, "red", dtype="<U6")
    for name, low, high in (
        ("orange", 16, 43), ("yellow", 43, 68), ("green", 68, 170), ("blue", 170, 253), ("purple", 253, 292),
        ("pink", 292, 345),
    ):  # fmt: skip
        names[(hue >= low) & (hue < high)] = name
    names[(names == "red") & (saturation < 0.55) & (value > 0.75)] = "pink"
    names[np.isin(names, ["red", "orange"]) & (hue > 8) & (hue < 43) & (value < 0.68)] = "brown"
    names[saturation < 0.2] = "grey"
    names[value < 0.3] = "black"
    kinds, counts = np.unique(names, return_counts=True)
    return str(kinds[counts.argmax()])
