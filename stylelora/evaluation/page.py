"""The HTML report of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stylelora.data.images import to_pil
from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.pictures import StylePictures
from stylelora.evaluation.summary import cell, counted, main_table, p_said, unmeasured
from stylelora.metrics.attainment import ATTAINMENT
from stylelora.metrics.both import BOTH_SCORE
from stylelora.metrics.clip_score import CLIP_SCORE
from stylelora.metrics.measure import meaning
from stylelora.metrics.skill import SKILL
from stylelora.records import Quantity
from stylelora.runs.html import inline, render

SHOWN = 8  # pictures per row of the gallery, and nearest pairs
EXTREMES = 6  # best and worst pictures shown of a metric


def page(found: Measurements, styles: Sequence[StylePictures], title: str) -> str:
    """Return an HTML page, to be saved next to the folder of pictures.

    Args:
        found: results of the test.
        styles: real pictures of the styles.
        title: title of the page.
    """
    return render(
        "evaluation.html",
        title=title,
        counted=counted(found),
        main=main_table(found),
        unmeasured=unmeasured(found),
        tests=[
            [test, cell(found.metric(test.condition, test.quantity)), *map(p_said, (test.p_value, test.p_holm))]
            for test in found.tests
        ],
        conditions=[one.name for one in found.pictures.conditions],
        gallery=list(_gallery(found)),
        styles=[style.name for style in styles],
        skills=list(_skills(found, styles)),
        extremes=list(_extremes(found)),
        pairs=list(_pairs(found, styles)),
        metrics=[(metric, cell(metric), meaning(metric)) for metric in found.metrics],
    )


def _gallery(found: Measurements) -> Iterator[tuple[str, list[str]]]:
    """Yield some contents, each with the picture files of all conditions."""
    base = found.pictures.base
    for i in [i for i, seed in enumerate(base.seeds) if seed == base.seeds[0]][:SHOWN]:
        yield base.contents[i], [one.files[i] for one in found.pictures.conditions]


def _skills(found: Measurements, styles: Sequence[StylePictures]) -> Iterator[list[str]]:
    """Yield the rows of the cross matrix."""
    for one in found.pictures.conditions:
        skills = [found.metric(one.name, Quantity(SKILL.name, style=style.name)) for style in styles]
        if any(skills):
            yield [one.name, *map(cell, skills)]


def _extremes(found: Measurements) -> Iterator[tuple[str, list[tuple[str, list[dict]]]]]:
    """Yield conditions, each with its best and worst pictures."""
    for one in found.pictures.conditions:
        sheets = []
        for quantity, values in found.values[one.name].items():
            own = quantity.measure == ATTAINMENT.name and quantity.style in one.weights
            if not (own or quantity.measure in (CLIP_SCORE.name, BOTH_SCORE.name)):
                continue
            order = np.argsort(-values, kind="stable")
            for word, some in (("best", order[:EXTREMES]), ("worst", order[::-1][:EXTREMES])):
                shown = [{"src": one.files[i], "text": f"{values[i]:.2f} {one.contents[i]}"} for i in some]
                sheets.append((f"{word} by {quantity}", shown))
        yield one.name, sheets


def _pairs(found: Measurements, styles: Sequence[StylePictures]) -> Iterator[tuple[str, list[dict]]]:
    """Yield what is compared, and its pictures alternating with their nearest training pictures."""
    training = {style.name: style.training for style in styles}
    conditions = {one.name: one for one in found.pictures.conditions}
    for (name, style, judge), (index, cosine) in found.pairs.items():
        one, shown = conditions[name], []
        for i in cosine.argsort(descending=True)[:SHOWN].tolist():
            shown.append({"src": one.files[i], "text": f"{cosine[i]:.3f} {one.contents[i]}"})
            shown.append({"src": inline(to_pil(training[style][int(index[i])])), "text": "training"})
        yield f"{name}, {style}, by {judge}", shown
