"""Measures of blends: do they show both styles, and each in proportion to its weight?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stylelora.evaluation.measure_style import Similarities
from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.pictures import ConditionPictures
from stylelora.evaluation.vectors import AVERAGE, CUT
from stylelora.lora.read import BASE
from stylelora.metrics import both
from stylelora.metrics.attainment import ATTAINMENT, Calibration
from stylelora.metrics.both import both_intervals, both_rate, both_scores, coin_flip
from stylelora.metrics.comparison import Comparison, paired_difference
from stylelora.metrics.weight_response import RANK_CORRELATION, SHARE_ERROR, SLOPE, VIOLATIONS, weight_response
from stylelora.records import Estimate, Quantity

#: Of a blend, by the names that `both_intervals` gives them.
MEASURED = {
    "blend": both.BOTH_SCORE,
    "coin_flip": both.COIN_FLIP,
    "above_pixel_average": both.BOTH_ABOVE_PIXEL_AVERAGE,
    "base": both.BOTH_SCORE_OF_BASE,
    "first": both.BOTH_SCORE_OF_FIRST,
    "second": both.BOTH_SCORE_OF_SECOND,
    "pixel_average": both.BOTH_SCORE_OF_PIXEL_AVERAGE,
    "cut": both.BOTH_SCORE_OF_CUT,
}


def measure_blends(found: Measurements, judge: str, near: Similarities, scales: Mapping[str, Calibration]) -> None:
    """Measure and test whether blends of two styles show both; primary endpoint: more than a coin flip does.

    Args:
        found: has the attainments from `measure_style`; the metrics are added to it.
        judge: name of the judge.
        near: from `similarities`.
        scales: of the styles that can be measured, from `measure_style`.
    """
    for triple in found.pictures.blends():
        measurable = set(triple[0].weights) <= scales.keys()  # if not, the endpoint is still declared
        test = _measure_blend(found, judge, triple, near) if measurable else None
        found.declare(triple[0].name, both.BOTH_ABOVE_COIN_FLIP, judge, None, test)


def _measure_blend(
    found: Measurements,
    judge: str,
    triple: tuple[ConditionPictures, ConditionPictures, ConditionPictures],
    near: Similarities,
) -> Comparison:
    """Measure a blend and its controls. The p-value treats both scales as exact; the interval does not."""
    blend, first, second = triple
    prompts, share, styles = found.pictures.prompts, blend.share, list(blend.weights)

    def attained(one: ConditionPictures) -> list[np.ndarray]:
        return [found.values[one.name][Quantity(ATTAINMENT.name, judge, style)] for style in styles]

    def similar(name: str) -> np.ndarray:
        return np.stack([near[name][style] for style in styles], 1)

    scores = both_scores(*attained(blend))
    found.keep(blend.name, Quantity(both.BOTH_SCORE.name, judge), scores)
    alone = similar(first.name), similar(second.name)
    controls = {"pixel_average": similar(blend.name + AVERAGE), "cut": similar(blend.name + CUT)}
    baselines = {one.name: similar(one.name) for one in found.pictures.prompt_baselines()}
    intervals = both_intervals(similar(blend.name), alone, similar(BASE), prompts, share, controls | baselines)
    for key, measure in MEASURED.items():
        found.add(measure.of(intervals[key], blend.name, judge))
    for name in baselines:
        found.add(both.BOTH_SCORE_OF_WORDS.of(intervals[name], name, judge, " + ".join(sorted(styles))))
    crossed = attained(second)[0], attained(first)[1]
    found.add(both.BOTH_RATE.of(both_rate(*attained(blend), *crossed, prompts), blend.name, judge))
    flip = coin_flip(both_scores(*attained(first)), both_scores(*attained(second)), share)
    return Comparison(intervals["above_coin_flip"], paired_difference(scores, flip, prompts).p_value)


def measure_response(found: Measurements, judge: str) -> None:
    """Measure whether blends of two styles follow their weights, for each pair and method with three mixtures or more.

    Computed from the mean attainments: rank correlation and slope of a_A - a_B against w_A - w_B, violations of
    monotonicity, and distance of the realised share from the requested one. The unit is the setting, so there is no
    interval. The two adapters alone define the ends of the scale and follow their weights by definition, so they are
    excluded.
    """
    sweeps: dict[tuple, list[ConditionPictures]] = {}
    for blend, *_ in found.pictures.blends():
        if round(sum(blend.weights.values()), 6) == 1:
            sweeps.setdefault((tuple(sorted(blend.weights)), blend.method), []).append(blend)
    for ((a, b), method), sweep in sweeps.items():
        quantities = [Quantity(ATTAINMENT.name, judge, style) for style in (a, b)]
        known = [one for one in sweep if all(quantity in found.values[one.name] for quantity in quantities)]
        weights = [(one.weights[a], one.weights[b]) for one in known]
        if len({round(first, 6) for first, _ in weights}) < 3:
            continue
        means = [[found.values[one.name][quantity].mean() for one in known] for quantity in quantities]
        response = weight_response(*means, weights)
        for measure, value in (
            (RANK_CORRELATION, response.rank_correlation),
            (SLOPE, response.slope),
            (VIOLATIONS, response.violations),
            (SHARE_ERROR, response.share_error),
        ):
            estimate = Estimate(float(value), -np.inf, np.inf, len(known))
            found.add(measure.of(estimate, f"{a} + {b}, {method}", judge))
