"""The embedded styles: four small sets of captioned pictures with their metadata.

A style is a file `embedded/<style>.json` with the fields of `Style`, and a folder `embedded/<style>` with
pictures, `metadata.jsonl` (one line per picture: file_name, text, source) and `LICENSE.txt`. Captions name the content
only; the trigger is prepended in training. The embedded generator was trained on none of these pictures; those of
`watercolor`, however, are repainted from icons that share their outlines with the shaded Fluent icons it has seen.
`stylelora.pretraining.style_sets` redraws them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

EMBEDDED = Path(__file__).parent / "embedded"
#: Default prompts for the samples of every epoch, without trigger; "mini" knows all of these concepts.
PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")


@dataclass(frozen=True)
class Style:
    """Metadata of an art style; the defaults suit most styles.

    Attributes:
        name: name of the style, its file and its folder.
        trigger: trigger word of the style.
        interpolation: how its pictures are resized, one of `images.INTERPOLATIONS`; `nearest` for pixel art.
        template: template of captions and prompts.
        prompts: content prompts sampled every epoch, without trigger.
        source: the works its pictures come from.
        licence: licence of the pictures; `LICENSE.txt` has the full text.
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
        """Folder of the style's pictures."""
        return EMBEDDED / self.name

    def rows(self) -> list[dict[str, str]]:
        """Read the hand-written list of its pictures: `file_name`, `text` and `source` of each."""
        lines = (self.folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def read_style(file: Path) -> Style:
    """Load a style from its JSON file, whose stem is the style's name."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    return Style(file.stem, **fields | {"prompts": tuple(fields.get("prompts", PROMPTS))})


#: The embedded styles by name.
STYLES = {file.stem: read_style(file) for file in sorted(EMBEDDED.glob("*.json"))}
