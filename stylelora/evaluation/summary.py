"""The summary of a test for the terminal, and the number format of all tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from stylelora.evaluation.measurements import Measurements
from stylelora.metrics.attainment import ATTAINMENT
from stylelora.metrics.both import BOTH_RATE, BOTH_SCORE, BOTH_SCORE_OF_BASE, COIN_FLIP
from stylelora.metrics.clip_score import CLIP_SCORE
from stylelora.metrics.measure import Measure
from stylelora.metrics.style import STYLE_GAIN
from stylelora.records import Endpoint, Estimate, Metric, Quantity


def cell(estimate: Estimate | None) -> str:
    """Format a value with its interval, `0.42 (0.31 to 0.53)`; a dash for none, a note for no interval."""
    if estimate is None:
        return "-"
    if estimate.ci_low == estimate.ci_high == 1:  # 1 by definition: the end of the scale
        return f"{estimate.value:.3f}"
    if not (math.isfinite(estimate.ci_low) or math.isfinite(estimate.ci_high)):
        return f"{estimate.value:.3f} (no interval)"
    return f"{estimate.value:.3f} ({estimate.ci_low:.3f} to {estimate.ci_high:.3f})"


def p_said(p_value: float | None) -> str:
    """Format a p-value with four digits, or as smaller than that; a dash for none."""
    if p_value is None:
        return "-"
    return f"{p_value:.4f}" if p_value >= 0.00005 else "<0.0001"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(one.replace("|", "\\|").replace("\n", " ") for one in cells) + " |"

    return "\n".join([line(heading), "|---" * len(heading) + "|", *map(line, rows)])


def main_table(found: Measurements) -> tuple[list[str], list[list[str]]]:
    """Return header and rows by the first judge of each kind: content, style gain and attainment, both-score."""

    def first(measure: Measure) -> str | None:
        judges = (metric.quantity.judge for metric in found.metrics if metric.quantity.measure == measure.name)
        return next(judges, None)

    gained = [metric.quantity.style for metric in found.metrics if metric.quantity.measure == STYLE_GAIN.name]
    columns = {"CLIP score": Quantity(CLIP_SCORE.name, first(CLIP_SCORE))}
    for said, measure in (("style gain, {}", STYLE_GAIN), ("attainment of {}", ATTAINMENT)):
        judge = first(measure)
        columns |= {said.format(style): Quantity(measure.name, judge, style) for style in dict.fromkeys(gained)}
    both = {"both": BOTH_SCORE, "both of the base": BOTH_SCORE_OF_BASE, "coin flip": COIN_FLIP, "both rate": BOTH_RATE}
    for said, measure in both.items():
        columns[said] = Quantity(measure.name, first(measure))
    heading = ["condition", *columns]
    rows = [
        [one.name, *(cell(found.metric(one.name, quantity)) for quantity in columns.values())]
        for one in found.pictures.conditions
    ]
    kept = [i for i in range(len(heading)) if any(row[i] != "-" for row in rows)]
    return [heading[i] for i in kept], [[row[i] for i in kept] for row in rows]


def summary(found: Measurements) -> str:
    """Return the main table and the tests, in Markdown."""
    lines = [markdown(*main_table(found)), f"\nMean (95 % interval) over {counted(found)}."]
    return "\n".join([*lines, *unmeasured(found), *tests_said(found.metrics, found.tests)])


def counted(found: Measurements) -> str:
    """Return the number of prompts and of pictures per prompt as text."""
    prompts = len(set(found.pictures.prompts))
    each = len(found.pictures.prompts) // prompts
    return f"{prompts} prompt{'s' * (prompts > 1)}, {each} picture{'s' * (each > 1)} of each"


def unmeasured(found: Measurements) -> list[str]:
    """Return a line for each style whose adapter was tested but whose attainment could not be measured."""
    lines = []
    for test in found.tests:
        condition, quantity = test.condition, test.quantity
        if quantity.measure != STYLE_GAIN.name or found.metric(condition, quantity._replace(measure=ATTAINMENT.name)):
            continue
        gain = cell(found.metric(condition, quantity))
        lines.append(
            f"{condition} is not shown to be nearer to the style {quantity.style} than the base: its style gain is "
            f"{gain}, so it has no attainment. Look at the pictures; more of them, more steps or another rate may help."
        )
    return lines


def tests_said(metrics: Iterable[Metric], tests: Iterable[Endpoint]) -> list[str]:
    """Return a line for each test of a declared endpoint."""
    table = {(metric.condition, metric.quantity): metric for metric in metrics}
    return [
        f"{test}: could not be measured, and was not tested"
        if test.p_value is None
        else f"{test}: {cell(table.get((test.condition, test.quantity)))}, p = {p_said(test.p_value)}, "
        f"Holm {p_said(test.p_holm)}"
        for test in tests
    ]
