"""Measures of style: how much of each style do the pictures of each condition show?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.vectors import Vectors
from stylelora.metrics.attainment import (
    ATTAINMENT,
    ATTAINMENT_WITHOUT_TRIGGER,
    TRIGGER_EFFECT,
    Calibration,
    attainment,
    calibrate,
)
from stylelora.metrics.comparison import paired_difference
from stylelora.metrics.statistics import mean_interval, ratio_interval
from stylelora.metrics.style import STYLE, STYLE_GAIN, STYLE_GAIN_OF_REAL, STYLE_WITHOUT_TRIGGER, style_similarity
from stylelora.records import Quantity
from stylelora.runs.pictures import BASE, NO_TRIGGER

#: Name of a condition, with NO_TRIGGER behind those without, and of each blend's controls -> style -> cosine of each
#: picture to the style's held-out pictures, float64 (N,).
Similarities = Mapping[str, Mapping[str, np.ndarray]]


def similarities(vectors: Vectors) -> Similarities:
    """Return the similarity of all pictures to all styles."""
    silent = {name + NO_TRIGGER: rows for name, rows in vectors.untriggered.items()}
    return {
        name: {style: style_similarity(rows, real).double().numpy() for style, real in vectors.held_out.items()}
        for name, rows in (vectors.made | silent | vectors.controls).items()
    }


def measure_style(found: Measurements, judge: str, near: Similarities) -> dict[str, Calibration]:
    """Measure how much of each style the pictures show, with and without trigger words.

    Attainment is calibrated: 0 is the base, 1 the style's adapter alone, over the same prompts and seeds. Its interval
    resamples both ends of the scale, too. Primary endpoint: each adapter alone is nearer to its style than the base.

    Args:
        found: the metrics are added to it.
        judge: name of the judge.
        near: from `similarities`.

    Returns:
        the scales of the styles that can be measured.
    """
    base, scales, prompts = near[BASE], {}, found.pictures.prompts
    for style in base:
        _measure_similarity(found, judge, style, near)
        if (single := found.pictures.alone(style)) is None:
            continue
        alone = near[single.name][style]
        scale = calibrate(base[style], alone, prompts)
        if scale.measurable:  # if not, attainment is undefined
            scales[style] = scale
            _measure_attainment(found, judge, style, near, scale)
        found.declare(single.name, STYLE_GAIN, judge, style, paired_difference(alone, base[style], prompts))
    return scales


def _measure_similarity(found: Measurements, judge: str, style: str, near: Similarities) -> None:
    """Measure the similarity of all conditions to a style, which needs no scale."""
    prompts = found.pictures.prompts
    baselines = [one.name for one in found.pictures.prompt_baselines()]
    for one in found.pictures.conditions:
        own, similarity = style in one.weights, near[one.name][style]
        found.add_mean(one.name, STYLE, similarity, judge, style, wanted=own)
        if own or one.name in baselines:
            gain = mean_interval(similarity - near[BASE][style], prompts)
            found.add(STYLE_GAIN.of(gain, one.name, judge, style))
        if own and one.name in found.pictures.untriggered:
            without = mean_interval(near[one.name + NO_TRIGGER][style], prompts)
            found.add(STYLE_WITHOUT_TRIGGER.of(without, one.name, judge, style))


def _measure_attainment(found: Measurements, judge: str, style: str, near: Similarities, scale: Calibration) -> None:
    """Measure attainment of a style by all conditions, and by those made with it also without trigger words."""
    base, prompts = near[BASE][style], found.pictures.prompts
    span = near[found.pictures.alone(style).name][style] - base
    for one in found.pictures.conditions[1:]:
        own, similarity = style in one.weights, near[one.name][style]
        found.keep(one.name, Quantity(ATTAINMENT.name, judge, style), attainment(similarity, scale))
        reached = ratio_interval(similarity - base, span, prompts)
        found.add(ATTAINMENT.of(reached, one.name, judge, style, wanted=own))
        if own and one.name in found.pictures.untriggered:
            without = near[one.name + NO_TRIGGER][style]
            leak, effect = (ratio_interval(part, span, prompts) for part in (without - base, similarity - without))
            found.add(ATTAINMENT_WITHOUT_TRIGGER.of(leak, one.name, judge, style))
            found.add(TRIGGER_EFFECT.of(effect, one.name, judge, style))


def measure_real(found: Measurements, judge: str, near: Similarities, vectors: Vectors) -> None:
    """Measure the style gain of each style's training pictures: a ceiling beside which adapters' gains can be read.

    They are not among the held-out pictures that define the style, and need not show what the prompts ask for.
    """
    for style, rows in vectors.training.items():
        real = style_similarity(rows, vectors.held_out[style]).double().numpy()
        gain = mean_interval(real - near[BASE][style].mean(), range(len(real)))
        found.add(STYLE_GAIN_OF_REAL.of(gain, BASE, judge, style))
