"""One scale of attainment for all arms of a style, where each test has a scale of its own on which its adapter is 1."""

from __future__ import annotations

from dataclasses import replace

from stylelora.evaluation.finished import joined
from stylelora.evaluation.summary import cell
from stylelora.lora.read import BASE
from stylelora.metrics.attainment import ATTAINMENT, attainment, calibrate
from stylelora.metrics.style import STYLE
from stylelora.records import Quantity
from stylelora.studies.plan import Study, named
from stylelora.studies.report_read import Arm, Reading


def reference_of(study: Study) -> dict[str, str]:
    """Return the levels of the arms that others are compared with; none if all pairs are compared."""
    return {study.trend: study.factors[study.trend][-1]} if study.trend else study.against


def one_scale(study: Study, found: Reading, unmeasured: list[str]) -> list[Arm]:
    """Put the attainments of all arms on one scale for each style, and return the arms that are 1.

    It is the first arm of the style among those that others are compared with. Its mean over all its training seeds is
    1, that of the base 0. The scale is treated as exact.

    Args:
        study: its plan.
        found: its arms, whose own attainments are replaced.
        unmeasured: gets a sentence for each style that has no scale.
    """
    for arm in found.arms:
        for quantity in [one for one in arm.series if one.measure == ATTAINMENT.name]:
            del arm.series[quantity]
    reference, ends = reference_of(study), []
    for style in dict.fromkeys(style for arm in found.arms for style in arm.styles):
        end = next((arm for arm in found.arms if style in arm.styles and arm.levels.items() >= reference.items()), None)
        if end is None:
            unmeasured.append(f"attainment of {style}: {named(reference)}, which would be 1, has no finished run")
        elif _rescale(found, end, style, unmeasured):
            ends.append(end)
    return ends


def _rescale(found: Reading, end: Arm, style: str, unmeasured: list[str]) -> bool:
    """Give all arms an attainment of a style by each judge; return whether there is any."""
    base, done = joined([finished.conditions[BASE] for finished in end.finished]), False
    for quantity in [one for one in end.series if (one.measure, one.style) == (STYLE.name, style)]:
        line = calibrate(base[quantity].values, end.series[quantity].values, end.series[quantity].units)
        if not line.measurable:
            unmeasured.append(
                f"attainment of {style}: {end.label}, which would be 1, is not clearly nearer to the style than the "
                f"base, by {cell(line.span)}, or the prompts are too few"
            )
            continue
        done = True
        for arm in found.arms:
            if one := arm.series.get(quantity):
                arm.series[_attainment(quantity)] = replace(one, values=attainment(one.values, line))
    return done


def _attainment(quantity: Quantity) -> Quantity:
    return quantity._replace(measure=ATTAINMENT.name)
