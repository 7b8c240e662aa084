"""Pixel art: native 16x16 items, and native 32x32 tiles."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import STYLES


class Pixelart(StyleDataModule):
    """99 items of Minetest Game, 16x16 px, CC BY-SA 3.0; enlarged by `nearest`, which keeps pixels sharp."""

    style = STYLES["pixelart"]


class Pixelart32(StyleDataModule):
    """95 tiles of Dungeon Crawl Stone Soup, 32x32 px, CC0: finer than "mini" can show; enlarged by `nearest`."""

    style = STYLES["pixelart32"]
