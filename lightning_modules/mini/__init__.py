"""How the embedded base was trained, stage by stage: autoencoder, scorer, generator."""

from lightning_modules.mini.autoencoder import MiniAutoencoder
from lightning_modules.mini.generator import MiniGenerator
from lightning_modules.mini.scorer import MiniScorer

__all__ = ["MiniAutoencoder", "MiniGenerator", "MiniScorer"]
