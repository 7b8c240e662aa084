"""Data of the embedded base's training stages, all from one table of rendered icons."""

from datamodules.mini.icons import Icons
from datamodules.mini.named_icons import NamedIcons
from datamodules.mini.named_latents import NamedLatents
from datamodules.mini.styled_icons import StyledIcons

__all__ = ["Icons", "NamedIcons", "NamedLatents", "StyledIcons"]
