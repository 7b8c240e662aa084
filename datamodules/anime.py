"""Anime: visual-novel characters on drawn or plain backgrounds."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import STYLES


class Anime(StyleDataModule):
    """89 pictures composed from the sprites and backgrounds of two Ren'Py games, Expat licence."""

    style = STYLES["anime"]
