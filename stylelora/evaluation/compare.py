"""The program `compare`: compares finished tests picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylelora.evaluation.export import check_suffix, export
from stylelora.evaluation.finished import Series
from stylelora.evaluation.sides import Side, check_comparable, difference, differing, equal, read_side
from stylelora.evaluation.summary import cell, markdown, p_said
from stylelora.metrics.attainment import ATTAINMENT, Calibration, attainment, calibrate
from stylelora.metrics.comparison import holm
from stylelora.metrics.style import STYLE
from stylelora.records import Estimate, InputError, Quantity


def compare(
    runs: list[str] | str,
    conditions: list[str] | str | None = None,
    primary: str = "attainment",
    margin: float | None = None,
    output: Path | None = None,
) -> None:
    """Compare tests with the same prompts and seeds: every side with the first.

    Attainment is on one scale for all, of each style of the first side's condition: 0 is its base, 1 that condition.

    Args:
        runs: folders of tests to compare, each with the first; several of one recipe with different training seeds are
            joined by commas: A1,A2,A3 B1,B2,B3. Then intervals and p-values cover other training seeds, too. If both
            sides have as many, the i-th run of a side is paired with the i-th of the first.
        conditions: one condition per side, by its name in the side's first run; default: the last one of each.
        primary: metric declared before looking, such as attainment or skill; of the styles of the first side's
            condition. Its p-values are adjusted by Holm, over sides, styles and judges. Those of all others are
            exploratory and adjusted as false discoveries.
        margin: largest difference of the primary metric that does not matter; in the metric's own units; if given,
            equivalence is tested, too, and adjusted by Holm. 0.1 of attainment is usual.
        output: file that gets the table, too, a row per metric: NAME.csv or NAME.json.

    Raises:
        InputError: if runs or conditions cannot be compared.
    """
    if margin is not None and not 0 < margin < float("inf"):
        raise InputError(f"margin is {margin}; give a number above 0, in units of the primary metric")
    if output is not None:
        check_suffix(output)
    runs, conditions = ([one] if isinstance(one, str) else one for one in (runs, conditions))
    if len(runs) < 2 or (conditions is not None and len(conditions) != len(runs)):
        raise InputError("give at least two runs, and either no conditions or one per run")
    first, *others = [
        read_side(run, condition) for run, condition in zip(runs, conditions or [None] * len(runs), strict=True)
    ]
    said = [f"first: {first.label}"]
    scales = scales_of(first, said)
    reference = with_attainment(first, scales)
    p_values: dict[str, dict[str, float]] = {"primary": {}, "exploratory": {}, "equal": {}}
    tested: dict[str, tuple[dict, dict[str, Estimate]]] = {}
    for side in others:
        check_comparable(first, side)
        said += differing(first, side)
        series = with_attainment(side, scales)
        if alone := sorted(map(str, reference.keys() ^ series.keys())):
            said.append(f"left out, since only one of {side.runs} and {first.runs} has it: {', '.join(alone)}")
        styles, paired = first.styles or side.styles, len(side.finished) == len(first.finished)
        for quantity in (quantity for quantity in reference if quantity in series):
            kind = "primary" if is_called(quantity, primary) and is_of(quantity, styles) else "exploratory"
            one, this = reference[quantity], series[quantity]
            key = f"{side.label}: {quantity}"
            if not np.isfinite(np.concatenate([one.values, this.values])).all():
                said.append(f"left out, since some pictures have no value: {key}")
                continue
            test = difference(this, one, paired)
            p_values[kind][key] = test.p_value
            what = {"kind": kind, "runs": side.runs, "condition": side.condition} | quantity.as_record()
            tested[key] = what, {"first": one.mean, "this": this.mean, "difference": test.difference}
            if margin is not None and kind == "primary":
                p_values["equal"][key] = equal(this, one, paired, margin)
    if not p_values["primary"]:
        known = ", ".join(sorted({quantity.measure for quantity in reference}))
        raise InputError(" ".join([f"no metric of both sides is called {primary}; choose from {known}.", *said[1:]]))
    adjusted = holm(p_values["primary"]) | false_discoveries(p_values["exploratory"])
    equals = holm(p_values["equal"])
    said += [
        f"{key}: equal to within {margin:g}? p = {p_said(p)}, Holm {p_said(equals[key])}"
        for key, p in sorted(p_values["equal"].items())
    ]
    lines, records, single = [], [], p_values["primary"] | p_values["exploratory"]
    for key in sorted(tested, key=lambda key: (key not in p_values["primary"], key)):
        what, means = tested[key]
        lines.append([what["kind"], key, *map(cell, means.values()), *map(p_said, (single[key], adjusted[key]))])
        chances = {"p_value": single[key], "p_adjusted": adjusted[key], "p_equal": p_values["equal"].get(key)}
        records.append(what | flat(means) | chances | {"p_equal_adjusted": equals.get(key)})
    if output is not None:
        export(records, output)
        said.append(f"written: {output}")
    heading = ["", "run, condition: metric", "first", "this", "difference", "p", "adjusted"]
    print("\n".join([*said, markdown(heading, lines)]))
    print("\n".join(dict.fromkeys(speaks_for(len(first.finished), len(side.finished)) for side in others)))


def flat(means: dict[str, Estimate]) -> dict[str, float]:
    """Return the numbers of a comparison under names of their own; `n` is that of the difference."""
    found = {}
    for name, one in means.items():
        found |= {name: one.value, f"{name}_low": one.ci_low, f"{name}_high": one.ci_high}
    return found | {"n": means["difference"].n}


def scales_of(first: Side, said: list[str]) -> dict[Quantity, Calibration]:
    """Return the scale of each of the first side's styles by its similarity's quantity; warn about missing ones."""
    scales = {}
    if not first.styles:
        said.append("no attainment: the first side has no style of its own to be 1; give --primary style")
    for quantity, one in first.series.items():
        if quantity.measure == STYLE.name and is_of(quantity, first.styles):
            scale = calibrate(first.base[quantity].values, one.values, one.units)
            if scale.measurable:
                scales[quantity] = scale
            else:
                span = cell(scale.span)
                said.append(f"no attainment: the first is not clearly nearer to it than its base, {quantity} {span}")
    return scales


def with_attainment(side: Side, scales: dict[Quantity, Calibration]) -> dict[Quantity, Series]:
    """Return a side's series, with attainment on the given scales instead of on each run's own.

    The scales are treated as exact.
    """
    found = {quantity: one for quantity, one in side.series.items() if quantity.measure != ATTAINMENT.name}
    for quantity, scale in scales.items():
        if quantity in side.series:
            one = side.series[quantity]
            values = attainment(one.values, scale)
            found[quantity._replace(measure=ATTAINMENT.name)] = Series(one.pictures, values, one.train_seeds)
    return found


def is_called(quantity: Quantity, name: str) -> bool:
    """Return whether a name means a quantity: by its measure, such as `style`, or in full, as `style[mini-style]`."""
    return name in (quantity.measure, str(quantity._replace(style=None)), str(quantity))


def is_of(quantity: Quantity, styles: Sequence[str]) -> bool:
    """Return whether a quantity refers to one of the styles, or to no particular style."""
    return quantity.style is None or quantity.style in styles


def speaks_for(first: int, this: int) -> str:
    """Return what conclusions hold for, by the number of training seeds on each side."""
    if first == this == 1:
        return (
            "One training seed on each side: intervals and p-values are about these adapters only, not their recipes."
        )
    covers = "intervals and p-values cover other training seeds, too"
    if first == this:
        return f"{first} training seeds on each side: {covers}."
    alone = ", and one side's seeds are taken to vary as much as the other's" * (1 in (first, this))
    return f"{first} and {this} training seeds, not paired: {covers}{alone}."


def false_discoveries(p_values: dict[str, float]) -> dict[str, float]:
    """Return p-values adjusted to control the false discovery rate (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    adjusted: Sequence[float] = false_discovery_control(list(p_values.values())) if p_values else []
    return dict(zip(p_values, map(float, adjusted), strict=True))
