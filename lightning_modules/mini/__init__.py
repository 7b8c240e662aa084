"""How the embedded base was trained, stage by stage: autoencoder, scorer, style encoder, generator."""

from lightning_modules.mini.autoencoder import MiniAutoencoder
from lightning_modules.mini.generator import MiniGenerator
from lightning_modules.mini.scorer import MiniScorer, MiniScorerNames
from lightning_modules.mini.style_encoder import MiniStyleEncoder

__all__ = ["MiniAutoencoder", "MiniGenerator", "MiniScorer", "MiniScorerNames", "MiniStyleEncoder"]
