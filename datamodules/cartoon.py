"""Cartoon: thick dark outlines, flat fills."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import STYLES


class Cartoon(StyleDataModule):
    """94 pictures: Streamline Emojis by Streamline, CC BY 4.0."""

    style = STYLES["cartoon"]
