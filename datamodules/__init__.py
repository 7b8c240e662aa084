"""Data modules: one class per style, with a docstring and a `Style`; base.py does the rest."""

from datamodules.anime import Anime
from datamodules.base import StyleDataModule
from datamodules.cartoon import Cartoon
from datamodules.evaluation_set import EvaluationSet
from datamodules.pixelart import Pixelart, Pixelart32
from datamodules.prompts import Prompts
from datamodules.watercolor import Watercolor

__all__ = ["Anime", "Cartoon", "EvaluationSet", "Pixelart", "Pixelart32", "Prompts", "StyleDataModule", "Watercolor"]
