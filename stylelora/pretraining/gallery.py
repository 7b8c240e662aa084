"""The generator's training drawings: several icons and glyphs of each concept, and people.

Fluent's flat and high-contrast icons are excluded: the embedded watercolours are repainted from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stylelora.base.concepts import load_concepts
from stylelora.pretraining.icon_table import GLYPH_SETS, STYLE_PHRASES, TRAIN_SETS, IconTable, build_icon_table
from stylelora.pretraining.people import PORTRAITS, build_people

#: Concept -> other icons of it, from another angle or in another variant.
OTHER_VIEWS = {
    "cat-face": "cat", "dog-face": "dog,poodle,guide-dog", "tiger-face": "tiger", "pig-face": "pig",
    "cow-face": "cow", "horse-face": "horse", "rabbit-face": "rabbit", "mouse-face": "mouse",
    "monkey-face": "monkey", "tropical-fish": "fish", "spouting-whale": "whale", "red-apple": "green-apple",
    "soft-ice-cream": "ice-cream", "birthday-cake": "shortcake",
    "automobile": "oncoming-automobile,sport-utility-vehicle", "taxi": "oncoming-taxi",
    "bus": "oncoming-bus,minibus", "police-car": "oncoming-police-car", "locomotive": "train",
    "airplane": "small-airplane", "house": "house-with-garden,hut", "castle": "japanese-castle", "tent": "camping",
    "umbrella": "umbrella-with-rain-drops", "key": "old-key",
    "green-book": "blue-book,orange-book,closed-book,open-book", "top-hat": "womans-hat",
    "camera": "camera-with-flash", "star": "glowing-star", "crescent-moon": "full-moon,waning-crescent-moon",
    "snowman": "snowman-without-snow", "camel": "two-hump-camel", "chair": "seat", "hatching-chick": "baby-chick",
    "globe-showing-europe-africa": "globe-showing-americas,globe-showing-asia-australia",
    "hourglass-done": "hourglass-not-done", "magnifying-glass-tilted-left": "magnifying-glass-tilted-right",
    "locked": "unlocked", "microphone": "studio-microphone", "mount-fuji": "mountain", "running-shoe": "mans-shoe",
    "ship": "passenger-ship,ferry", "sun": "sun-with-face", "delivery-truck": "articulated-lorry,pickup-truck",
    "movie-camera": "video-camera", "classical-building": "bank", "drum": "long-drum",
    "motorcycle": "motor-scooter",
}  # fmt: skip
#: Names of the icons that show people.
PEOPLE_ICONS = (
    "artist astronaut baby boy child construction-worker cook detective farmer firefighter girl guard judge man "
    "mechanic ninja old-man old-woman person pilot police-officer prince princess scientist singer student teacher "
    "woman"
).split()
GLYPH_PHRASES = {"tabler": "line icon", "icon-park": "two-tone icon", "game": "solid icon"}
#: Glyphs whose name means something else in their set.
_OTHER_THINGS = {
    "tabler": "mouse,note,phone,tornado",
    "icon-park": (
        "anchor,apple,brain,chicken,compass,egg,keyboard,ladder,mouse,pie,ring,scissors,seal,telescope,trumpet"
    ),
    "game": "butterfly,clover,crab,phone,tiger",
}
#: Set -> wording of its look in captions.
PHRASES = STYLE_PHRASES | GLYPH_PHRASES | {name: known.phrase for name, known in PORTRAITS.items()}


def build_gallery(cache: Path | str, people: int, size: int = 64) -> IconTable:
    """Collect all drawings; `slugs` holds each one's concept, or a person's name or description.

    Args:
        cache: folder of the fetched archives and rendered tables.
        people: number of people drawn per set.
        size: side of the pictures in pixels.
    """
    concepts = load_concepts()
    shows = {slug: slug for slug in (*concepts, *PEOPLE_ICONS)}
    shows |= {view: slug for slug, views in OTHER_VIEWS.items() for view in views.split(",")}
    by_name = {name: slug for slug, name in concepts.items()}
    parts = []
    for table in (build_icon_table(TRAIN_SETS, cache, size), build_icon_table(GLYPH_SETS, cache, size)):
        for row, (slug, name) in enumerate(zip(table.slugs.tolist(), table.sets.tolist(), strict=True)):
            if name in GLYPH_PHRASES:
                thing = slug.replace("-", " ")
                slug = None if thing in _OTHER_THINGS[name].split(",") else by_name.get(thing)
            else:
                slug = shows.get(slug) if name in STYLE_PHRASES else None
            if slug is not None:
                parts.append((table.pixels[row], slug, name))
    drawn = build_people(people, cache, size)
    parts += zip(drawn.pixels, drawn.words.tolist(), drawn.sets.tolist(), strict=True)
    pixels, slugs, sets = zip(*parts, strict=True)
    return IconTable(np.stack(pixels), np.array(slugs), np.array(sets))
