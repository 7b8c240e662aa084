"""Training scenes per icon: alone, recoloured, two or three copies, or on a coloured background."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from stylelora.base.concepts import PLURALS, with_article
from stylelora.pretraining.recolour import COLOURS, recolour

NUMBERS = {2: "two", 3: "three"}
#: Layout of the copies: centres (x, y) as fractions of the side, and their size.
_PLACES = {2: (((0.26, 0.5), (0.74, 0.5)), 0.48), 3: (((0.5, 0.27), (0.26, 0.74), (0.74, 0.74)), 0.46)}
_IRREGULAR = {
    "deer": "deer", "die": "dice", "fish": "fish", "knife": "knives", "leaf": "leaves", "mouse": "mice",
    "scarf": "scarves", "shrimp": "shrimp", "tomato": "tomatoes", "tooth": "teeth", "volcano": "volcanoes",
    "wolf": "wolves",
}  # fmt: skip


class Scene(NamedTuple):
    """One way to show a concept.

    Attributes:
        colour: key of COLOURS to paint it in, or None for its own.
        count: how many there are, 1 to 3.
        background: key of COLOURS behind it, or None for white.
        moved: whether it is a little out of place and scale; no caption says so.
        look: key of LOOKS that the picture is drawn in, or None for the icon's own.
    """

    colour: str | None = None
    count: int = 1
    background: str | None = None
    moved: bool = False
    look: str | None = None


def held_out(name: str, colour: str) -> bool:
    """Return whether "a <colour> <name>" is held out; one pair in five is, to test composition."""
    digest = hashlib.sha256(repr(("held-out colour", name, colour)).encode()).digest()
    return (int.from_bytes(digest[:8], "little") >> 1) % 5 == 0


def scenes_of(name: str) -> list[Scene]:
    """Return all training scenes of a concept."""
    alone = [Scene()]
    coloured = [Scene(colour=colour) for colour in COLOURS if not held_out(name, colour)]
    counted = [] if name in PLURALS else [Scene(count=count) for count in NUMBERS]
    return alone + coloured + counted + [Scene(background=colour) for colour in COLOURS]


def draw(rgba: np.ndarray, scene: Scene) -> np.ndarray:
    """Render a scene of an icon, uint8 (H, W, 4); returns uint8 (H, W, 3)."""
    if scene.colour is not None:
        rgba = recolour(rgba, scene.colour)
    side = len(rgba)
    behind = (255, 255, 255) if scene.background is None else COLOURS[scene.background]
    canvas, icon = Image.new("RGBA", (side, side), (*behind, 255)), Image.fromarray(rgba)
    if scene.count == 1:
        canvas.alpha_composite(icon)
        return np.asarray(canvas.convert("RGB"))
    places, share = _PLACES[scene.count]
    small = icon.resize((round(side * share),) * 2, Image.Resampling.LANCZOS)
    for x, y in places:
        canvas.alpha_composite(small, (round(x * side) - small.width // 2, round(y * side) - small.height // 2))
    return np.asarray(canvas.convert("RGB"))


def plural(name: str) -> str:
    """Return `cats`, `mice`, `cherries` of `cat`, `mouse`, `cherry`."""
    *before, last = name.split()
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "es" if last.endswith(("s", "x", "ch", "sh")) else "s"
    return " ".join([*before, last])


def describe(name: str, scene: Scene) -> str:
    """Describe a scene in words: `a green apple`, `two cats`, `a car on a blue background`."""
    if scene.count > 1:
        return f"{NUMBERS[scene.count]} {plural(name)}"
    words = with_article(name, scene.colour)
    return words if scene.background is None else f"{words} on {with_article('background', scene.background)}"
