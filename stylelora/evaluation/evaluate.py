"""One evaluation, from the pictures of all conditions to metrics: encodes each picture once and asks every measure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stylelora.evaluation.evaluate_pictures import measure_content, measure_distribution, measure_drift, measure_loss
from stylelora.evaluation.evaluate_style import measure_collage, measure_response, measure_style
from stylelora.evaluation.evaluation import AVERAGE, CUT, NO_TRIGGER, Evaluation, Style
from stylelora.metrics.controls import cut, pixel_average
from stylelora.metrics.encoders import ImageEncoder, ImageTextEncoder
from stylelora.metrics.inception import Inception
from stylelora.metrics.style import style_similarity


def evaluate(
    found: Evaluation,
    styles: Sequence[Style],
    losses: Sequence[dict],
    content: Sequence[ImageTextEncoder],
    style: Sequence[ImageEncoder],
    distribution: Sequence[ImageEncoder | Inception],
) -> Evaluation:
    """Fill an evaluation with everything that can be measured of it.

    Args:
        found: from `conditions_of`.
        styles: real pictures of the styles.
        losses: of held-out pictures, see `measure_loss`.
        content: judge what pictures show; the first one's metrics come first.
        style: judge the style they show it in.
        distribution: judge how far sets of pictures are apart; the first also judges drift.
    """
    encoded: dict[str, dict[str, Tensor]] = {}  # a network may have two roles

    def vectors_of(encoder: ImageEncoder) -> dict[str, Tensor]:
        if encoder.name not in encoded:
            encoded[encoder.name] = encode_conditions(found, encoder)
        return encoded[encoder.name]

    for encoder in content:
        measure_content(found, encoder, vectors_of(encoder), [one.name for one in styles])
    for encoder in style:
        vectors = vectors_of(encoder) | encode_controls(found, encoder)
        held_out = {one.name: encode(encoder, one.held_out) for one in styles}
        near = {
            condition: {name: style_similarity(rows, real).double().numpy() for name, real in held_out.items()}
            for condition, rows in vectors.items()
        }
        scales = measure_style(found, encoder.name, near)
        measure_response(found, encoder.name)
        measure_collage(found, encoder.name, encoder.encode_images, held_out, scales)
    for number, encoder in enumerate(distribution):
        vectors = vectors_of(encoder)
        if not number:
            measure_drift(found, encoder.name, vectors)
        held_out, training = (
            {one.name: scaled(encode(encoder, getattr(one, side))) for one in styles}
            for side in ("held_out", "training")
        )
        vectors = {name: scaled(rows) for name, rows in vectors.items()}
        measure_distribution(found, encoder.name, vectors, held_out, training)
    measure_loss(found, losses)
    return found


def encode_conditions(found: Evaluation, encoder: ImageEncoder) -> dict[str, Tensor]:
    """Return the vectors of all pictures by condition, NO_TRIGGER behind the names of those without, float (N, D)."""
    vectors = {condition.name: encoder.encode_images(condition.images) for condition in found.conditions}
    return vectors | {
        condition.name + NO_TRIGGER: encoder.encode_images(condition.images) for condition in found.untriggered.values()
    }


def encode_controls(found: Evaluation, encoder: ImageEncoder) -> dict[str, Tensor]:
    """Return the vectors of the controls of each blend, by its name with AVERAGE or CUT behind, float (N, D)."""
    vectors = {}
    for condition, first, second in found.blends():
        for name, control in (AVERAGE, pixel_average), (CUT, cut):
            vectors[condition.name + name] = encoder.encode_images(
                control(first.images, second.images, condition.share)
            )
    return vectors


def encode(encoder: ImageEncoder, images: Sequence[Tensor]) -> Tensor:
    """Return the vectors of pictures uint8 (3, H, W), float (N, D)."""
    return encoder.encode_images(torch.stack(list(images)))


def scaled(vectors: Tensor) -> Tensor:
    """Return unit vectors times sqrt(D), of numbers of about 1, which KID's kernel is made for; others as they are."""
    lengths = vectors.norm(dim=1)
    return vectors * math.sqrt(vectors.shape[1]) if torch.allclose(lengths, torch.ones_like(lengths)) else vectors
