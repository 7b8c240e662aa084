"""Cartoon: thick dark outlines, flat fills."""

from datamodules.base import StyleDataModule


class Cartoon(StyleDataModule):
    """94 pictures: Streamline Emojis by Streamline, CC BY 4.0."""

    style = "cartoon"
    default_trigger = "ctstyle"
