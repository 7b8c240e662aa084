"""Anime: visual-novel characters on drawn or plain backgrounds."""

from datamodules.base import PROMPTS, StyleDataModule
from stylelora.data.embedded import TRIGGERS


class Anime(StyleDataModule):
    """89 pictures composed from the sprites and backgrounds of two Ren'Py games, Expat licence."""

    style = "anime"
    default_trigger = TRIGGERS["anime"]
    default_prompts = (
        "a girl with long orange hair, smiling",
        "a girl with short pink hair, on a blue background",
        "the face of a girl with long orange hair, laughing",
        "a close-up of a girl with green hair, in a park",
        *PROMPTS[:4],
    )
