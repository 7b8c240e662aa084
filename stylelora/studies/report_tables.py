"""The tables of a report: rows of text for pages, records for other programs, and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stylelora.evaluation.summary import cell, p_said
from stylelora.metrics.style import STYLE_GAIN_OF_REAL
from stylelora.studies.plan import Study, mixture, named, short
from stylelora.studies.report_design import Design
from stylelora.studies.report_measures import columns, spoken
from stylelora.studies.report_outcome import Outcome, declared, means_by_seed
from stylelora.studies.report_read import Reading

Table = tuple[list[str], list[list[str]]]


def arms_table(found: Reading, outcome: Outcome) -> Table:
    """Return a row for the base and for each arm: its levels, training seeds, and means with intervals."""
    shown, factors = columns(found, outcome.primary), list(found.factors)
    known = any(arm.steps for arm in found.arms)
    heading = [*factors, "training seeds", *["steps of the kept adapters"] * known, *map(spoken, shown)]
    base = [cell(found.base[one].mean if one in found.base else None) for one in shown]
    rows = [["base, no adapter", *[""] * (len(factors) - 1), "-", *["-"] * known, *base]]
    for arm in found.arms:
        levels = [short(factor, label) for factor, label in arm.levels.items()]
        steps = [range_said(arm.steps)] * known
        rows.append([*levels, ", ".join(map(str, arm.seeds)), *steps, *map(cell, map(arm.mean, shown))])
    return heading, rows


def range_said(numbers: Sequence[int]) -> str:
    """Return the lowest and highest of numbers, or the one that they are, as text."""
    return " to ".join(map(str, sorted({min(numbers), max(numbers)}))) if numbers else ""


def differences_table(study: Study, outcome: Outcome) -> Table:
    """Return a row for each planned difference."""
    shared, over = any(one.names[2] for one in outcome.differences), f"p, Holm over {len(outcome.differences)}"
    heading = ["arm", "minus", *["both with"] * shared, "difference", "p", over]
    heading += [f"equal to within {study.margin:g}: p", over] if study.margin else []
    rows = []
    for one in outcome.differences:
        chances = [one.test.p_value, one.p_holm] + ([one.p_equal, one.p_equal_holm] if study.margin else [])
        this, first, both = one.names
        pair = [this, first] + [both] * bool(shared)
        rows.append([*pair, cell(one.test.difference), *map(p_said, chances), one.verdict])
    return [*heading, "shown"], rows


def trends_table(study: Study, outcome: Outcome) -> Table:
    """Return a row for each trend."""
    over = f"p, Holm over {len(outcome.responses)}"
    heading = ["at", "levels", "adapters", "Kendall's tau", "p", over, "change per level"]
    rows = []
    for one in outcome.responses:
        levels = ", ".join(arm.levels[study.trend] for arm in one.arms)
        count = str(sum(len(arm.seeds) for arm in one.arms))
        numbers = [f"{one.trend.tau:.2f}", p_said(one.trend.p_value), p_said(one.p_holm), cell(one.slope)]
        rows.append([named(one.others) or "all", levels, count, *numbers])
    return heading, rows


def endpoints_table(study: Study, found: Reading, outcome: Outcome) -> Table:
    """Return a row for each endpoint that the tests themselves declare."""
    ones = list(declared(study, found, outcome))
    blends = any(of_base is not None for *_, of_base in ones)
    rows = [
        [test.label, mixture(one.condition), f"{spoken(one.quantity)}, by {one.quantity.judge}", cell(estimate),
         *["-" if of_base is None else f"{of_base:.3f}"] * blends, p_said(one.p_value), p_said(one.p_holm)]
        for test, one, estimate, of_base in ones
    ]  # fmt: skip
    heading = ["test", "pictures of", "endpoint", "value", *["the base's"] * blends, "p", "p, Holm over its test"]
    return heading, rows


def runs_table(design: Design) -> Table:
    """Return a row for each finished training."""
    heading = list(dict.fromkeys(name for row in design.runs.values() for name in row))
    return ["run", *heading], [[label, *row.values()] for label, row in design.runs.items()]


def records(found: Reading, outcome: Outcome) -> Iterator[dict[str, object]]:
    """Yield a record of every quantity of the base, of each arm over all its seeds, and of each of its seeds alone."""
    sources = [("base", dict.fromkeys(found.factors), found.base, [], None)]
    for arm in found.arms:
        sources.append((arm.label, arm.levels, arm.series, arm.seeds, outcome.primary and arm.own(outcome.primary)))
    for label, levels, series, seeds, primary in sources:
        for quantity, one in series.items():
            mean, what = one.mean, quantity.as_record() | {"primary": quantity == primary}
            ends = {"value": mean.value, "ci_low": mean.ci_low, "ci_high": mean.ci_high}
            counts = {"seeds": len(seeds), "units": len(set(one.units))}
            yield {"arm": label, **levels, "seed": None, **what, **ends, **counts}
            for seed, value in zip(seeds, means_by_seed(one), strict=False):
                alone = {"value": value, "ci_low": None, "ci_high": None}
                yield {"arm": label, **levels, "seed": seed, **what, **alone, **counts}
    for arm in found.arms:
        for gain, mean in arm.ceilings.items():
            if gain.style in arm.styles:
                what = gain._replace(measure=STYLE_GAIN_OF_REAL.name).as_record() | {"primary": False}
                ends = {"value": mean.value, "ci_low": mean.ci_low, "ci_high": mean.ci_high}
                yield {"arm": arm.label, **arm.levels, "seed": None, **what, **ends, "seeds": 0, "units": mean.n}


def latex(study: Study, found: Reading, outcome: Outcome) -> str:
    """Return the tables of arms and of differences in LaTeX, for the package booktabs."""
    tables = [(study.question, arms_table(found, outcome))]
    if outcome.differences:
        said = f"Planned differences of {spoken(outcome.primary)}."
        tables.append((said, differences_table(study, outcome)))
    head = "% \\usepackage{booktabs} in the preamble\n"
    return head + "\n".join(_tabular(caption, *table) for caption, table in tables)


def _tabular(caption: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(tex, row)) + r" \\" for row in (heading, *rows)]
    return "\n".join([
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{tex(caption)} With 95\,\% intervals.}}",
        rf"\begin{{tabular}}{{@{{}}{'l' * len(heading)}@{{}}}}",
        r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}  # fmt: skip


def tex(text: str) -> str:
    """Return a text with what LaTeX would read as commands escaped, and minus signs and intervals as in a paper."""
    plain = "".join(_SPECIAL.get(letter, letter) for letter in text)
    plain = re.sub(r"(?<![\w.])-(?=\d)", "$-$", plain)
    plain = re.sub(r"\((\S+) to (\S+)\)", r"[\1, \2]", plain)
    return re.sub(r"^\[", "{[}", plain)  # after a row's end it would be an option
