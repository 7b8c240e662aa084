"""Watercolour: icons repainted with wet edges, granulation and paper."""

from datamodules.base import StyleDataModule
from stylelora.data.styles import STYLES


class Watercolor(StyleDataModule):
    """92 pictures: Fluent Emoji (flat) by Microsoft, MIT, repainted by `stylelora/pretraining/watercolor.py`."""

    style = STYLES["watercolor"]
