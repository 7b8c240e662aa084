"""Measures of content: do pictures match their prompts, and what do adapters change without their trigger words?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.vectors import Vectors
from stylelora.metrics.clip_score import CLIP_SCORE, CLIP_SCORE_FULL, agreement
from stylelora.metrics.drift import DRIFT, PIXEL_DRIFT, pixel_drift, vector_drift
from stylelora.metrics.encoders import ImageTextEncoder


def measure_content(found: Measurements, judge: ImageTextEncoder, made: Mapping[str, Tensor]) -> None:
    """Measure the CLIP score against the content alone and against the whole prompt.

    Args:
        found: the metrics are added to it.
        judge: encodes the texts.
        made: name of a condition -> its pictures' vectors, of length 1, float (N, D).
    """
    for one in found.pictures.conditions:
        content, whole = (agreement(made[one.name], judge, texts) for texts in (one.contents, one.prompts))
        found.add_mean(one.name, CLIP_SCORE, content, judge.name)
        found.add_mean(one.name, CLIP_SCORE_FULL, whole, judge.name)


def measure_drift(found: Measurements, vectors: Vectors) -> None:
    """Measure what adapters change in pictures whose prompts have no trigger word."""
    base = found.pictures.base
    for name, silent in found.pictures.untriggered.items():
        drift = vector_drift(vectors.untriggered[name], vectors.made[base.name])
        found.add_mean(name, DRIFT, drift, vectors.name)
        pairs = zip(silent.batches(), base.batches(), strict=True)
        found.add_mean(name, PIXEL_DRIFT, torch.cat([pixel_drift(*pair) for pair in pairs]))
