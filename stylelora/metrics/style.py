"""Style similarity: how near pictures are to a style, whatever their content."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor

from stylelora.base.load import MINI
from stylelora.metrics.encoders import load_frozen, name_of, unit_vectors
from stylelora.metrics.measure import Measure
from stylelora.records import InputError

STYLE = Measure("style", "cosine of the picture's vector to the mean of the style's held-out pictures")
STYLE_GAIN = Measure(
    "style_gain",
    "what is added to the base's similarity to the style; of an adapter alone, its primary endpoint",
)
STYLE_GAIN_OF_REAL = Measure(
    "style_gain_of_real_pictures",
    "the gain of real pictures, those that the style's adapter was trained on: what it might reach at best; the "
    "interval is over these pictures, and takes the base's mean as exact",
)
STYLE_WITHOUT_TRIGGER = Measure(
    "style_without_trigger",
    "similarity to the style of the same adapters' pictures of prompts without trigger words",
    higher_is_better=False,
)


class StyleEncoder:
    """A frozen style encoder: vectors of pictures of one style lie near each other.

    The embedded one was made for this project's base; for a real Stable Diffusion, use `CsdEncoder`.

    Attributes:
        name: "mini-style" for the embedded one, else the folder's own name or the hub id; part of the metrics' names.
        model: CLIPVisionModelWithProjection; no parameter requires grad.

    Args:
        path_or_id: "mini" (embedded; 64 px), a folder with a CLIPVisionModelWithProjection in safetensors and its
            image processor, or the hub id of such a repository.
        device: where the network runs; vectors always come back on the CPU.

    Raises:
        InputError: the network cannot be loaded, or lacks some of its weights.
    """

    def __init__(self, path_or_id: str = "mini", device: torch.device | str = "cpu") -> None:
        from safetensors import SafetensorError
        from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

        source = str(MINI / "style_encoder") if path_or_id == "mini" else path_or_id
        self.name = "mini-style" if path_or_id == "mini" else name_of(path_or_id)
        self.device = torch.device(device)
        try:
            self.model = load_frozen(CLIPVisionModelWithProjection, source, f"Style encoder {self.name!r}")
            self.processor = CLIPImageProcessorPil.from_pretrained(source)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"Style encoder {path_or_id!r} cannot be loaded: give 'mini', a folder with a "
                "CLIPVisionModelWithProjection in safetensors and its image processor, or the id of such a repository "
                "that is reachable or already downloaded."
            ) from error
        self.model.to(self.device)

    def encode_images(self, images: Tensor | Sequence[Image]) -> Tensor:
        """Return unit vectors float32 (B, D) of pictures, uint8 (B, 3, H, W) or PIL images of any sizes."""
        width = self.model.config.projection_dim
        return unit_vectors(
            images, self.processor, lambda pixel_values: self.model(pixel_values).image_embeds, width, self.device
        )


def style_similarity(vectors: Tensor, references: Tensor) -> Tensor:
    """Return the cosine of each vector (B, D) to the mean direction of the references' (N, D), float32 (B,).

    Use pictures of the style that no adapter was trained on as references; otherwise copies are rewarded.
    """
    return F.cosine_similarity(vectors, F.normalize(references, dim=1).mean(0, keepdim=True))


def in_style(styled: Tensor, base: Tensor, references: Tensor, quantile: float = 0.95) -> Tensor:
    """Return which styled pictures are nearer to the style than nearly all of the base's, bool (B,).

    Args:
        styled: vectors of pictures made with the style, float (B, D).
        base: vectors of the base's pictures of the same contents, float (M, D).
        references: vectors of real pictures of the style, float (N, D).
        quantile: share of the base's pictures that must be less near.
    """
    return style_similarity(styled, references) > style_similarity(base, references).quantile(quantile)
