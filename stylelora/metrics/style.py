"""How near pictures are to a style, whatever they show."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from stylelora.base.load import MINI
from stylelora.metrics.encoders import CHUNK, as_pil


class StyleEncoder:
    """A frozen network whose vectors lie near each other for pictures of one style (as CSD, Somepalli et al. 2024).

    Attributes:
        name: "mini-style", which metrics carry in their names.
        model: CLIPVisionModelWithProjection; no parameter requires grad.
    """

    name = "mini-style"

    def __init__(self) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        folder = MINI / "style_encoder"
        self.processor = CLIPImageProcessor.from_pretrained(folder)
        with torch.random.fork_rng(devices=[]):  # constructors draw initial weights; training must not notice
            self.model = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
        self.model.eval().requires_grad_(False)

    @torch.no_grad()
    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return unit vectors float32 (B, 64) of pictures, uint8 (B, 3, H, W) or PIL images of any sizes."""
        pictures = as_pil(images)
        rows = [torch.empty(0, self.model.config.projection_dim)]
        for start in range(0, len(pictures), CHUNK):
            pixels = self.processor(pictures[start : start + CHUNK], return_tensors="pt").pixel_values
            rows.append(F.normalize(self.model(pixel_values=pixels).image_embeds, dim=1))
        return torch.cat(rows)


def style_similarity(vectors: Tensor, references: Tensor) -> Tensor:
    """Return the cosine of each vector (B, D) to the mean direction of the references' (N, D), float32 (B,)."""
    return F.cosine_similarity(vectors, references.mean(0, keepdim=True))


def in_style(styled: Tensor, base: Tensor, references: Tensor, quantile: float = 0.95) -> Tensor:
    """Tell which styled pictures are nearer to the style than all but a few of the base's, bool (B,).

    Args:
        styled: vectors of pictures made with the style, float (B, D).
        base: vectors of what the base makes of the same contents, float (M, D).
        references: vectors of real pictures of the style, float (N, D).
        quantile: share of the base's pictures that must be less near.
    """
    return style_similarity(styled, references) > style_similarity(base, references).quantile(quantile)
