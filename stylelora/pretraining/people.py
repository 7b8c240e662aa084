"""People with attributes that their caption names: faces and busts drawn by DiceBear from openly licensed parts.

Needs the extra `mini` (dicebear-core, dicebear-styles). Sets and licences, as the package's definitions say:
adventurer (Lisa Wischofsky), big-ears (The Visual Team), micah (Micah Lanier), personas (Draftbit) and dylan (Natalia
Spivak) are CC BY 4.0; lorelei (Lisa Wischofsky), open-peeps (Pablo Stanley) and notionists (Zoish) are CC0 1.0.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stylelora.files import replacing
from stylelora.pretraining.icons import render

HAIR = {
    "black": "#201c20",
    "brown": "#6a4026",
    "blonde": "#ecc964",
    "red": "#b5321b",
    "orange": "#e9792b",
    "grey": "#a6a8ab",
    "blue": "#3d7fd6",
    "green": "#3faa3c",
    "pink": "#f08fb8",
    "purple": "#7d4fbb",
}
SKIN = ("#f9d3b4", "#eeb98c", "#cf8f5c", "#a5673a", "#6d4026")


class Portraits(NamedTuple):
    """One set of drawn parts.

    Attributes:
        phrase: how captions name its look.
        long: variants of `hair` that are long, by their first letters.
        short: variants that are short.
        smiling: variants of `mouth` that smile.
        sad: variants that are sad.
        hair: component that holds the hair.
        mouth: component that holds the mouth.
        coloured: whether its hair takes any colour; else it is ink.
        glasses: what gives it glasses, and what keeps them away; None: it has none.
    """

    phrase: str
    long: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    smiling: tuple[str, ...] = ()
    sad: tuple[str, ...] = ()
    hair: str = "hair"
    mouth: str = "mouth"
    coloured: bool = True
    glasses: tuple[dict, dict] | None = ({"glassesProbability": 100}, {"glassesProbability": 0})


#: DiceBear style -> what is known of its parts.
PORTRAITS = {
    "adventurer": Portraits("comic portrait", ("long",), ("short",)),
    "big-ears": Portraits("soft portrait", ("long",), ("short",), glasses=None),
    "lorelei": Portraits("brush portrait", smiling=("happy",), sad=("sad",)),
    "micah": Portraits(
        "outlined portrait", ("full",), ("fonze", "dannyPhantom"), ("smile", "laughing"), ("frown", "sad")
    ),
    "personas": Portraits(
        "flat portrait", ("long", "extraLong", "pigtails"), ("buzzcut", "fade", "shortCombover"),
        ("bigSmile", "smile"), ("frown",),
        glasses=({"eyesVariant": ["glasses"]}, {"eyesVariant": ["happy", "open", "sleep", "wink"]}),
    ),
    "open-peeps": Portraits(
        "inked portrait", ("long",), ("short", "pomp"), ("smile", "cute"), ("concerned", "tired"), "head", "expression",
        False, ({"accessoriesProbability": 100, "accessoriesVariant": ["glasses", "glasses2", "glasses3", "glasses4"]},
                {"accessoriesProbability": 0}),
    ),
    "notionists": Portraits("line portrait", coloured=False),
    "dylan": Portraits(
        "round portrait", ("longCurls",), ("flatTop", "plain", "spiky"), ("happy", "superHappy"), ("sad",),
        mouth="mood", glasses=None,
    ),
}  # fmt: skip


@functools.cache
def _style(name: str) -> object:
    import json
    from importlib.resources import files

    from dicebear import Style

    return Style(json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")))


@functools.cache
def _variants(name: str, component: str) -> list[str]:
    return list(_style(name).components()[component].variants())


def draw_person(name: str, rng: random.Random, size: int) -> tuple[np.ndarray, str]:
    """Draw a random person in one set's look, with a description.

    Args:
        name: key of PORTRAITS.
        rng: chooses the attributes and every part that no caption names.
        size: side of the picture in pixels.

    Returns:
        uint8 (size, size, 4) and words such as `smiling person with long red hair and glasses`.
    """
    from dicebear import Avatar

    known = PORTRAITS[name]
    options: dict = {"seed": str(rng.random()), "skinColor": [rng.choice(SKIN)], "backgroundColor": []}

    def pick(component: str, kinds: dict[str, tuple[str, ...]]) -> str:
        word = rng.choice([kind for kind, starts in kinds.items() if starts] or [""])
        if word:
            fitting = [variant for variant in _variants(name, component) if variant.startswith(kinds[word])]
            options[f"{component}Variant"] = fitting
        return word

    length = pick(known.hair, {"long": known.long, "short": known.short})
    mood = pick(known.mouth, {"smiling": known.smiling, "sad": known.sad})
    colour = rng.choice(list(HAIR)) if known.coloured else ""
    if colour:
        options["hairColor"] = [HAIR[colour]]
    glasses = known.glasses is not None and rng.random() < 0.3
    if known.glasses is not None:
        options |= known.glasses[0 if glasses else 1]
    hair = " ".join(word for word in (length, colour, "hair") if word) if length or colour else ""
    belongings = " and ".join(part for part in (hair, "glasses" if glasses else "") if part)
    words = f"{mood} person" if mood else "person"
    picture = np.asarray(render(Avatar(_style(name), options).to_string(), size, background=None))
    return picture, f"{words} with {belongings}" if belongings else words


class People(NamedTuple):
    """Drawn people; row i of every field describes the same person."""

    pixels: np.ndarray  # uint8 (N, size, size, 4), RGBA
    words: np.ndarray  # str (N,)
    sets: np.ndarray  # str (N,), key of PORTRAITS


def build_people(count: int, cache: Path | str, size: int = 64) -> People:
    """Draw `count` people per set, the same in every run, or load the cached ones."""
    path = Path(cache) / f"people-{count}-{size}.npz"
    if not path.is_file():
        seeds = [(name, f"{name} {number}") for name in PORTRAITS for number in range(count)]
        drawn = [draw_person(name, random.Random(seed), size) for name, seed in seeds]
        pixels, words = zip(*drawn, strict=True)
        sets = [name for name, _ in seeds]
        with replacing(path) as file:
            np.savez(file, pixels=np.stack(pixels), words=np.array(words), sets=np.array(sets))
    with np.load(path) as table:
        return People(table["pixels"], table["words"], table["sets"])
