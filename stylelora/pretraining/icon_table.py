"""Training pictures of the embedded base: icon sets, rendered once into one table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stylelora.base.concepts import name_of, with_article
from stylelora.files import replacing
from stylelora.pretraining.icons import fetch_npm, load_icon_set, render
from stylelora.pretraining.recolour import COLOURS

#: set -> npm package with exact version. Licences: Apache-2.0, CC BY 4.0, MIT, MIT, MIT.
TRAIN_SETS = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji@1.2.7",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "contrast": "@iconify-json/fluent-emoji-high-contrast@1.2.6",
}
#: Held-out sets, never trained on; used to evaluate the VAE and the scorer.
TEST_SETS = {
    "noto-v1": "@iconify-json/noto-v1@1.2.5",
    "emojione": "@iconify-json/emojione@1.2.3",
    "fxemoji": "@iconify-json/fxemoji@1.2.2",
}
#: More looks for the style encoder alone. Licences: CC BY 4.0, CC BY 4.0, MIT, CC BY 3.0, Apache-2.0, CC BY 4.0.
STYLE_SETS = {
    "freehand": "@iconify-json/streamline-freehand-color@1.2.2",
    "pixel": "@iconify-json/streamline-pixel@1.2.0",
    "flat-color": "@iconify-json/flat-color-icons@1.2.3",
    "game": "@iconify-json/game-icons@1.2.4",
    "icon-park": "@iconify-json/icon-park@1.2.4",
    "kameleon": "@iconify-json/streamline-kameleon-color@1.2.2",
}
#: Line and solid glyphs, for the VAE alone. Licences: MIT, Apache-2.0, CC BY 3.0.
GLYPH_SETS = {
    "tabler": "@iconify-json/tabler@1.2.41",
    "icon-park": STYLE_SETS["icon-park"],
    "game": STYLE_SETS["game"],
}
#: Wording in captions for the look of the generator's sets.
STYLE_PHRASES = {
    "noto": "shaded icon",
    "twemoji": "flat icon",
    "fluent": "glossy 3d icon",
}
_SKIPPED = ("skin-tone", "flag-", "keycap", "hidden", "oclock", "-thirty", "regional", "family", "couple", "kiss-")
_SKIN_TONE = re.compile(r"-(medium-)?(light|medium|dark)$")


class IconTable(NamedTuple):
    """Rendered icons; row i of every field describes the same icon."""

    pixels: np.ndarray  # uint8 (N, size, size, 4), RGBA
    slugs: np.ndarray  # str (N,), such as "red-apple"
    sets: np.ndarray  # str (N,), key of TRAIN_SETS or TEST_SETS


def build_icon_table(sets: dict[str, str], cache: Path | str, size: int = 64) -> IconTable:
    """Download and render icon sets, or load the cached table.

    Args:
        sets: set -> npm package with exact version.
        cache: folder for archives and the table.
        size: side of the pictures in pixels.

    Raises:
        RuntimeError: if an archive is missing and cannot be fetched.
    """
    cache = Path(cache)
    path = cache / f"icons-{'+'.join(sets)}-{size}.npz"
    if not path.is_file():
        pixels, slugs, names = [], [], []
        for name, package in sets.items():
            svgs = load_icon_set(fetch_npm(package, cache))
            whole = {slug.replace("-", ""): slug for slug in slugs}  # fxemoji joins words: redapple
            for slug, svg in svgs.items():
                slug = whole.get(slug, slug)
                plain = _SKIN_TONE.sub("", slug)
                if any(word in slug for word in _SKIPPED) or (plain != slug and plain in svgs):
                    continue
                pixels.append(np.asarray(render(svg, size, background=None)))
                slugs.append(slug)
                names.append(name)
        with replacing(path) as file:
            np.savez(file, pixels=np.stack(pixels), slugs=np.array(slugs), sets=np.array(names))
    with np.load(path) as table:
        return IconTable(table["pixels"], table["slugs"], table["sets"])


def corpus(table: IconTable) -> list[str]:
    """Return the tokenizer's training texts: every name, and its wordings in captions."""
    names = sorted({name_of(slug) for slug in table.slugs.tolist()})
    phrases = [f"a picture of a {phrase} of a thing" for phrase in STYLE_PHRASES.values()]
    phrases += [f"two things, three things, a {colour} thing on a {colour} background" for colour in COLOURS]
    return [with_article(name) for name in names] + phrases * 20
