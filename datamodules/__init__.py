"""Where pictures come from: one class per style, constants and a docstring each; base.py does everything."""

from datamodules.anime import Anime
from datamodules.base import StyleDataModule
from datamodules.cartoon import Cartoon
from datamodules.evaluation import Evaluation
from datamodules.pixelart import Pixelart
from datamodules.prompts import Prompts
from datamodules.watercolor import Watercolor

__all__ = ["Anime", "Cartoon", "Evaluation", "Pixelart", "Prompts", "StyleDataModule", "Watercolor"]
