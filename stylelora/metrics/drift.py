"""Drift: what adapters change in pictures of unrelated prompts, against the base's pictures of the same seeds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stylelora.metrics.measure import Measure
from stylelora.records import InputError

DRIFT = Measure(
    "drift",
    "cosine distance to the base's picture of the same seed where the prompt has no trigger word",
    higher_is_better=False,
)
PIXEL_DRIFT = Measure("pixel_drift", "mean change of pixels, 0 to 1, in the same pictures", higher_is_better=False)


def vector_drift(vectors: Tensor, base_vectors: Tensor) -> Tensor:
    """Return the cosine distance 1 - cos of each picture's vector to the base's: how much the meaning changes.

    Args:
        vectors: of pictures made with the adapter, float (B, D), of any length but 0.
        base_vectors: of the base's pictures of the same prompts and seeds, float (B, D).

    Returns:
        float32 (B,) in [0, 2]; 0: unchanged.

    Raises:
        InputError: different numbers of vectors.
    """
    _same_shape(vectors, base_vectors)
    return (1 - F.cosine_similarity(vectors, base_vectors)).clamp(min=0)


def pixel_drift(images: Tensor, base_images: Tensor) -> Tensor:
    """Return the mean absolute pixel difference of each picture to the base's: whether anything changes at all.

    Args:
        images: made with the adapter, uint8 (B, 3, H, W).
        base_images: the base's of the same prompts and seeds, uint8 (B, 3, H, W).

    Returns:
        float32 (B,) in [0, 1]; 0: equal in every pixel.

    Raises:
        InputError: pictures of different sizes, numbers or types.
    """
    _same_shape(images, base_images)
    if {images.dtype, base_images.dtype} != {torch.uint8} or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"Pictures must be uint8 (B, 3, H, W), not {images.dtype} and {base_images.dtype} {tuple(images.shape)}."
        )
    return (images.float() - base_images.float()).abs().mean((1, 2, 3)) / 255


def _same_shape(ours: Tensor, base: Tensor) -> None:
    if ours.shape != base.shape:
        raise InputError(f"Each picture needs the base's, but the shapes are {tuple(ours.shape)}, {tuple(base.shape)}.")
