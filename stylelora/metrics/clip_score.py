"""CLIP score: how well does a picture match its prompt?"""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image
from torch import Tensor

from stylelora.metrics.encoders import ImageTextEncoder
from stylelora.metrics.measure import Measure
from stylelora.records import InputError, SampleBatch

CLIP_SCORE = Measure(
    "clip_score", "cosine of the picture's vector to its content prompt's, without trigger and style words"
)
CLIP_SCORE_CHANGE = Measure(
    "clip_score_change", "the CLIP score minus that of the base's pictures of the same prompts and seeds"
)
CLIP_SCORE_FULL = Measure("clip_score_full", "the same to the whole prompt, trigger words included")


def clip_scores(encoder: ImageTextEncoder, images: Tensor | Sequence[Image], texts: Sequence[str]) -> Tensor:
    """Return the cosine similarity of each picture and its text: cos(E_I(image), E_T(text)).

    CLIP-S of Hessel et al. 2021 ("CLIPScore") is 2.5 * max(cos, 0) with ViT-B/32; torchmetrics reports 100 * cos,
    clamped after averaging, with ViT-L/14. Here the cosine is neither scaled nor clamped, since both distort its
    spread, and there is one value per picture, since intervals need them.

    Values of different encoders are not comparable, so the metric is named `clip_score[<encoder.name>]`. To measure
    content, pass the prompt without trigger and style words; with them, it measures style and content at once.

    Args:
        encoder: the judge; preferably not a network that the generator contains.
        images: uint8 (B, 3, H, W), or B PIL images.
        texts: one for each picture.

    Returns:
        float32 (B,) in [-1, 1].

    Raises:
        InputError: not as many texts as pictures, or pictures of a type that the encoder refuses.
    """
    if isinstance(texts, str) or len(images) != len(texts):
        raise InputError(f"CLIP score needs one text for each picture, but got {len(images)} and {len(texts)}.")
    return agreement(encoder.encode_images(images), encoder, texts)


def agreement(vectors: Tensor, encoder: ImageTextEncoder, texts: Sequence[str]) -> Tensor:
    """Return the CLIP score of encoded pictures, from unit vectors float (B, D); see `clip_scores`."""
    return (vectors * encoder.encode_texts(texts)).sum(-1)


def score_samples(encoder: ImageTextEncoder, batch: SampleBatch) -> list[dict]:
    """Score each sample and the base's picture against the prompt without trigger and style words.

    Returns:
        for each sample `index`, `prompt` (the one scored), `seed`, `encoder` (its name), `score`, `base_score`.
    """
    scores = clip_scores(encoder, batch.images, batch.contents).tolist()
    base_scores = clip_scores(encoder, batch.base_images, batch.contents).tolist()
    rows = zip(batch.index, batch.contents, batch.seeds, scores, base_scores, strict=True)
    return [
        {"index": index, "prompt": text, "seed": seed, "encoder": encoder.name, "score": score, "base_score": base}
        for index, text, seed, score, base in rows
    ]
