"""Pixel art: native 32x32 tiles of creatures, food and things."""

from datamodules.base import StyleDataModule
from stylelora.data.embedded import INTERPOLATIONS, TRIGGERS


class Pixelart(StyleDataModule):
    """95 tiles of Dungeon Crawl Stone Soup, CC0; enlarged by `nearest`, so that pixels stay hard."""

    style = "pixelart"
    default_trigger = TRIGGERS["pixelart"]
    default_interpolation = INTERPOLATIONS["pixelart"]
