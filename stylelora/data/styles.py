"""The styles that come with the package: four small sets of captioned pictures, each with what is known of it.

A style is a file `embedded/<style>.json`, which holds the fields of a `Style`, and a folder `embedded/<style>` with
pictures, `metadata.jsonl` (one line per picture: file_name, text, source) and `LICENSE.txt`. Captions name the content
only; the trigger is put in front when training. None of the pictures is part of what the embedded generator was trained
on; those of `watercolor`, however, are repainted from icons that share their outlines with the shaded Fluent icons it
has seen. `stylelora.pretraining.style_sets` redraws them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
#: Content of the pictures sampled every epoch, unless a style or a run names others. "mini" knows all of them.
PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")


@dataclass(frozen=True)
class Style:
    """What is known of an art style besides its pictures; the defaults suit most styles.

    Attributes:
        name: of the style, its file and its folder.
        trigger: word that stands for the style in prompts.
        interpolation: how its pictures are scaled, one of `images.INTERPOLATIONS`; `nearest` for pixel art.
        template: how captions and prompts are worded.
        prompts: content of the pictures sampled every epoch, without trigger.
        source: the works that its pictures are from.
        licence: of the pictures, as `LICENSE.txt` gives it in full.
    """

    name: str
    trigger: str
    interpolation: str = "lanczos"
    template: str = "{trigger}, {text}"
    prompts: tuple[str, ...] = PROMPTS
    source: str = ""
    licence: str = ""

    @property
    def folder(self) -> Path:
        """Return the folder of its pictures."""
        return EMBEDDED / self.name

    def rows(self) -> list[dict[str, str]]:
        """Return the list of its pictures that a person keeps: `file_name`, `text` and `source` of each."""
        lines = (self.folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def read_style(file: Path) -> Style:
    """Read the record of a style, which goes by the name of its file."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    return Style(file.stem, **fields | {"prompts": tuple(fields.get("prompts", PROMPTS))})


#: The embedded styles by name.
STYLES = {file.stem: read_style(file) for file in sorted(EMBEDDED.glob("*.json"))}
