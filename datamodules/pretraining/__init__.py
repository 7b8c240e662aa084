"""Data of the embedded base's training stages, all from one table of rendered icons."""

from datamodules.pretraining.icons import Icons
from datamodules.pretraining.looked_icons import LookedIcons
from datamodules.pretraining.looked_latents import LookedLatents
from datamodules.pretraining.named_icons import NamedIcons
from datamodules.pretraining.named_latents import NamedLatents
from datamodules.pretraining.styled_icons import StyledIcons

__all__ = ["Icons", "LookedIcons", "LookedLatents", "NamedIcons", "NamedLatents", "StyledIcons"]
