"""The concepts the embedded base can draw, and how to name them in a prompt."""

from __future__ import annotations

import functools

from stylelora.base.load import MINI

#: Names that take no article and are not counted.
PLURALS = frozenset(
    "blueberries,cherries,french fries,glasses,grapes,headphones,jeans,pancakes,peanuts,scissors,socks,sunglasses,"
    "beer,bread,broccoli,candy,cheese,chocolate,coffee,corn,dna,fire,garlic,lightning,popcorn,salad,sushi,tennis,wine,"
    "yarn".split(",")
)


@functools.cache
def load_concepts() -> dict[str, str]:
    """Load the concepts used for zero-shot classification: slug -> name, such as `cat-face` -> `cat`."""
    text = (MINI / "concepts.txt").read_text()
    return dict(line.split("\t") for line in text.splitlines())


def name_of(slug: str) -> str:
    """Return the plain name of an icon slug: `cat-face` -> `cat`, `red-apple` -> `red apple`."""
    return load_concepts().get(slug, slug.replace("-", " "))


def with_article(name: str, colour: str | None = None) -> str:
    """Add the indefinite article: `a cat`, `an owl`, `a unicorn`, `grapes`; with a colour, `an orange cat`."""
    words = f"{colour} {name}" if colour else name
    if name in PLURALS:
        return words
    vowel = words[0] in "aeiou" and not words.startswith(("uni", "ufo"))
    return f"{'an' if vowel or words.startswith('hour') else 'a'} {words}"
