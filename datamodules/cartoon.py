"""Cartoon: thick dark outlines, flat fills."""

from datamodules.base import StyleDataModule
from stylelora.data.embedded import TRIGGERS


class Cartoon(StyleDataModule):
    """94 pictures: Streamline Emojis by Streamline, CC BY 4.0."""

    style = "cartoon"
    default_trigger = TRIGGERS["cartoon"]
