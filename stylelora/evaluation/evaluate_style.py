"""How much of which style do the pictures of all conditions show?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from stylelora.evaluation.evaluation import AVERAGE, BASE, CUT, NO_TRIGGER, ConditionPictures, Evaluation
from stylelora.metrics.attainment import Calibration, attainment, calibrate
from stylelora.metrics.both import both_intervals, both_rate, both_scores, coin_flip
from stylelora.metrics.collage import spatial_dispersion
from stylelora.metrics.comparison import Comparison, holm, paired_difference
from stylelora.metrics.controls import cut
from stylelora.metrics.statistics import mean_interval, ratio_interval
from stylelora.metrics.weight_response import weight_response
from stylelora.records import Metric


def measure_style(
    found: Evaluation, encoder: str, similarity: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Calibration]:
    """Measure how much of each style the pictures have, with trigger words and without, and whether blends show both.

    Attainment is calibrated: 0 is the base, 1 the style's adapter alone, over the same prompts and seeds. Its interval
    resamples both ends with it. Primary endpoints are tested, adjusted by Holm over all judges so far: that each
    adapter alone is nearer to its style than the base, and that each blend shows both styles more than a coin flip
    between the two alone.

    Args:
        found: gets the metrics.
        encoder: name of what measured.
        similarity: name of a condition, with NO_TRIGGER behind those without, and of each blend's controls -> style ->
            cosine to the style's held-out pictures, float (N,).

    Returns:
        the scales of the styles that can be measured.
    """
    base, scales, tests = similarity[BASE], {}, {}
    for style in base:
        _measure_similarity(found, encoder, style, similarity)
        if (single := found.alone(style)) is None:
            continue
        alone = similarity[single.name][style]
        scale = calibrate(base[style], alone, found.prompts)
        tests[f"{single.name}: style_gain[{encoder}]/{style}"] = paired_difference(alone, base[style], found.prompts)
        if scale.measurable:  # if not, there is no scale to give attainments on
            scales[style] = scale
            _measure_attainment(found, encoder, style, similarity, scale)
    for conditions in found.blends():
        measurable = set(conditions[0].weights) <= scales.keys()  # if not, it was declared all the same
        test = _measure_blend(found, encoder, conditions, similarity) if measurable else None
        tests[f"{conditions[0].name}: both_above_coin_flip[{encoder}]"] = test
    for name, test in tests.items():
        if test is not None:
            found.metrics[name] = test.difference
        found.tests[name] = {
            "difference": None if test is None else test.difference.value,
            "p": 1.0 if test is None else test.p_value,
        }
    for name, adjusted in holm({name: test["p"] for name, test in found.tests.items()}).items():
        found.tests[name]["p_holm"] = adjusted
    return scales


def _measure_similarity(
    found: Evaluation, encoder: str, style: str, similarity: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Measure how near all conditions are to a style, which needs no scale."""
    prompt_baselines = {condition.name for condition in found.prompt_baselines()}
    for condition in found.conditions:
        own, near = style in condition.weights, similarity[condition.name][style]
        found.add(condition, f"style[{encoder}]/{style}", near, own)
        if own or condition.name in prompt_baselines:
            gain = mean_interval(near - similarity[BASE][style], found.prompts)
            found.metrics[f"{condition.name}: style_gain[{encoder}]/{style}"] = gain
        if own and condition.name in found.untriggered:
            without = similarity[condition.name + NO_TRIGGER][style]
            metric = mean_interval(without, found.prompts, higher_is_better=False)
            found.metrics[f"{condition.name}: style_without_trigger[{encoder}]/{style}"] = metric


def _measure_attainment(
    found: Evaluation,
    encoder: str,
    style: str,
    similarity: Mapping[str, Mapping[str, np.ndarray]],
    scale: Calibration,
) -> None:
    """Measure how much of a style all conditions attain, and of their own without trigger words."""
    base, prompts = similarity[BASE][style], found.prompts
    span = similarity[found.alone(style).name][style] - base
    for condition in found.conditions[1:]:
        own, near = style in condition.weights, similarity[condition.name][style]
        condition.values[f"attainment[{encoder}]/{style}"] = attainment(near, scale)
        measured = {"attainment": ratio_interval(near - base, span, prompts, higher_is_better=own)}
        if own and condition.name in found.untriggered:
            without = similarity[condition.name + NO_TRIGGER][style]
            leak = ratio_interval(without - base, span, prompts, higher_is_better=False)
            measured |= {
                "attainment_without_trigger": leak,
                "trigger_effect": ratio_interval(near - without, span, prompts),
            }
        found.metrics |= {f"{condition.name}: {name}[{encoder}]/{style}": metric for name, metric in measured.items()}


def _measure_blend(
    found: Evaluation,
    encoder: str,
    conditions: tuple[ConditionPictures, ConditionPictures, ConditionPictures],
    similarity: Mapping[str, Mapping[str, np.ndarray]],
) -> Comparison:
    """Measure whether a blend shows both of its styles, and compare it with tossing a coin between the two alone.

    The p-value takes both scales as given; the interval does not.
    """
    condition, first, second = conditions
    names = [f"attainment[{encoder}]/{style}" for style in condition.weights]
    share = condition.share

    def both(one: ConditionPictures) -> np.ndarray:
        return both_scores(*(one.values[name] for name in names))

    def near(one: str) -> np.ndarray:
        return np.stack([similarity[one][style] for style in condition.weights], 1)

    condition.values[f"both_score[{encoder}]"] = both(condition)
    alone = near(first.name), near(second.name)
    controls = {"pixel_average": near(condition.name + AVERAGE), "cut": near(condition.name + CUT)}
    prompt_baselines = {one.name: near(one.name) for one in found.prompt_baselines()}
    scores = both_intervals(near(condition.name), alone, near(BASE), found.prompts, share, controls | prompt_baselines)
    named = {"blend": "both_score", "coin_flip": "coin_flip", "above_pixel_average": "both_above_pixel_average"}
    named |= {key: f"both_score_of_{key}" for key in ("base", "first", "second", *controls)}
    for key, name in named.items():
        found.metrics[f"{condition.name}: {name}[{encoder}]"] = scores[key]
    for name in prompt_baselines:
        found.metrics[f"{name}: both_score_of_words[{encoder}]/{'+'.join(sorted(condition.weights))}"] = scores[name]
    crossed = second.values[names[0]], first.values[names[1]]
    rate = both_rate(*(condition.values[name] for name in names), *crossed, found.prompts)
    found.metrics[f"{condition.name}: both_rate[{encoder}]"] = rate
    test = paired_difference(both(condition), coin_flip(both(first), both(second), share), found.prompts)
    return Comparison(scores["above_coin_flip"], test.p_value)


def measure_response(found: Evaluation, encoder: str) -> None:
    """Measure whether blends of two styles follow their weights, for each pair and method with three mixtures or more.

    Rank correlation and slope of a_A - a_B against w_A - w_B, violations of monotony, distance of the realised share
    from the requested one, of the mean attainments; the unit is the setting, so there is no interval. The two adapters
    alone are the ends of the scale and follow their weights by definition, so they do not count.
    """
    sweeps: dict[tuple, dict[str, ConditionPictures]] = {}
    for condition, *_ in found.blends():
        if round(sum(condition.weights.values()), 6) == 1:
            sweep = sweeps.setdefault((tuple(sorted(condition.weights)), condition.method), {})
            sweep[condition.name] = condition
    for ((a, b), method), sweep in sweeps.items():
        name_a, name_b = (f"attainment[{encoder}]/{style}" for style in (a, b))
        conditions = [
            condition for condition in sweep.values() if name_a in condition.values and name_b in condition.values
        ]
        weights = [(condition.weights[a], condition.weights[b]) for condition in conditions]
        if len({round(first, 6) for first, _ in weights}) < 3:
            continue
        means = [[condition.values[name].mean() for condition in conditions] for name in (name_a, name_b)]
        for name, value in dataclasses.asdict(weight_response(*means, weights)).items():
            better = name in ("rank_correlation", "slope")
            metric = Metric(float(value), -np.inf, np.inf, len(conditions), better)
            found.metrics[f"{a} + {b}, {method}: weight_response_{name}[{encoder}]"] = metric


def measure_collage(
    found: Evaluation,
    encoder: str,
    encode: Callable[[Tensor], Tensor],
    references: Mapping[str, Tensor],
    scales: Mapping[str, Calibration],
) -> None:
    """Measure whether blends of two styles are collages, beside the two alone and a collage cut from these.

    Args:
        found: gets the metrics.
        encoder: name of what encodes.
        encode: from pictures uint8 (N, 3, H, W) to vectors float (N, D).
        references: style -> vectors of its held-out pictures, float (M, D).
        scales: from `measure_style`.
    """
    for condition, *alone in found.blends():
        a, b = condition.weights
        if {a, b} <= scales.keys():
            pair = (references[a], references[b]), (scales[a], scales[b])
            for one in (condition, *alone):
                name = f"collage[{encoder}]/{'+'.join(sorted((a, b)))}"
                if f"{one.name}: {name}" not in found.metrics:
                    found.add(one, name, spatial_dispersion(one.images, encode, *pair), higher_is_better=False)
            sure = spatial_dispersion(cut(*(one.images for one in alone), condition.share), encode, *pair)
            name = f"{condition.name}: collage_of_cut[{encoder}]/{'+'.join(sorted((a, b)))}"
            found.metrics[name] = mean_interval(sure, found.prompts, higher_is_better=False)
