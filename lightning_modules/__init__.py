"""Thin Lightning shells around the networks of `stylelora`."""

from lightning_modules.composed_styles import ComposedStyles
from lightning_modules.style_lora import StyleLoRA

__all__ = ["ComposedStyles", "StyleLoRA"]
