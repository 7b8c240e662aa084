"""Pixel art: native 32x32 tiles of creatures, food and objects."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import STYLES


class Pixelart(StyleDataModule):
    """95 tiles of Dungeon Crawl Stone Soup, CC0; enlarged by `nearest`, which keeps pixels sharp."""

    style = STYLES["pixelart"]
