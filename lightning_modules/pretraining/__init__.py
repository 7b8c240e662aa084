"""Training stages of the embedded base: autoencoder, scorer, style encoder, generator."""

from lightning_modules.pretraining.autoencoder import MiniAutoencoder
from lightning_modules.pretraining.generator import MiniGenerator
from lightning_modules.pretraining.scorer import MiniScorer, MiniScorerNames
from lightning_modules.pretraining.sharp_autoencoder import MiniSharpAutoencoder
from lightning_modules.pretraining.style_encoder import MiniStyleEncoder

__all__ = [
    "MiniAutoencoder",
    "MiniGenerator",
    "MiniScorer",
    "MiniScorerNames",
    "MiniSharpAutoencoder",
    "MiniStyleEncoder",
]
