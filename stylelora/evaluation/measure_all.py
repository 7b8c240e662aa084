"""Compute all measures of a test; every judge encodes each picture once."""

from __future__ import annotations

from collections.abc import Sequence

from stylelora.evaluation.measure_blends import measure_blends, measure_response
from stylelora.evaluation.measure_content import measure_content, measure_drift
from stylelora.evaluation.measure_distribution import measure_distribution
from stylelora.evaluation.measure_skill import measure_skill
from stylelora.evaluation.measure_style import measure_real, measure_style, similarities
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
    """Compute all measures of a test.

    Args:
        pictures: the generated pictures.
        styles: real pictures of the styles.
        losses: losses on held-out pictures, see `measure_skill`.
        content: judges of content; the first one's metrics come first.
        style: judges of style.
        distribution: judges of distances between sets of pictures; the first also judges drift.
    """
    found = Measurements(pictures)
    judges = {judge.name: judge for judge in (*content, *style, *distribution)}  # one network can have several roles
    vectors = {name: Vectors(judge, pictures, styles) for name, judge in judges.items()}
    for judge in content:
        measure_content(found, judge, vectors[judge.name].made)
    for judge in style:
        near = similarities(vectors[judge.name])
        scales = measure_style(found, judge.name, near)
        measure_real(found, judge.name, near, vectors[judge.name])
        measure_blends(found, judge.name, near, scales)
        measure_response(found, judge.name)
    for judge in distribution[:1]:
        measure_drift(found, vectors[judge.name])
    for judge in distribution:
        measure_distribution(found, vectors[judge.name])
    measure_skill(found, losses)
    return found
