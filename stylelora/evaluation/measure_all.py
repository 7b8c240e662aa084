"""One test from its pictures to its numbers: every judge encodes each picture once, and every measure is asked."""

from __future__ import annotations

from collections.abc import Sequence

from stylelora.evaluation.measure_blends import measure_blends, measure_response
from stylelora.evaluation.measure_content import measure_content, measure_drift
from stylelora.evaluation.measure_distribution import measure_distribution
from stylelora.evaluation.measure_skill import measure_skill
from stylelora.evaluation.measure_style import measure_style, similarities
from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.pictures import MadePictures, StylePictures
from stylelora.evaluation.vectors import Vectors
from stylelora.metrics.encoders import ImageEncoder, ImageTextEncoder
from stylelora.metrics.inception import Inception


def measure_all(
    pictures: MadePictures,
    styles: Sequence[StylePictures],
    losses: Sequence[dict],
    content: Sequence[ImageTextEncoder],
    style: Sequence[ImageEncoder],
    distribution: Sequence[ImageEncoder | Inception],
) -> Measurements:
    """Measure everything that can be measured of a test.

    Args:
        pictures: that it made.
        styles: real pictures of the styles.
        losses: of held-out pictures, see `measure_skill`.
        content: judge what pictures show; the first one's metrics come first.
        style: judge the style they show it in.
        distribution: judge how far sets of pictures are apart; the first also judges drift.
    """
    found = Measurements(pictures)
    judges = {judge.name: judge for judge in (*content, *style, *distribution)}  # a network may have two roles
    vectors = {name: Vectors(judge, pictures, styles) for name, judge in judges.items()}
    for judge in content:
        measure_content(found, judge, vectors[judge.name].made)
    for judge in style:
        near = similarities(vectors[judge.name])
        scales = measure_style(found, judge.name, near)
        measure_blends(found, judge.name, near, scales)
        measure_response(found, judge.name)
    for judge in distribution[:1]:
        measure_drift(found, vectors[judge.name])
    for judge in distribution:
        measure_distribution(found, vectors[judge.name])
    measure_skill(found, losses)
    return found
