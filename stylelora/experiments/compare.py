"""Finished tests side by side, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stylelora.experiments.evaluation import BASE
from stylelora.experiments.evaluation_page import cell, markdown
from stylelora.experiments.finished import Finished, Series, joined, read_finished
from stylelora.metrics.comparison import equivalence, holm, paired_difference
from stylelora.records import InputError


def compare(
    runs: list[str], arms: list[str] | None = None, primary: str = "attainment", margin: float | None = None
) -> None:
    """Compare tests that made the same prompts and seeds: every side with the first.

    Attainment is on one scale for all: 0 is the first side's base, 1 the first side's arm.

    Args:
        runs: sides to compare, each a folder that `test` wrote, or several of the same recipe trained with different
            seeds, joined by commas: A1,A2,A3 B1,B2,B3. Then intervals and p-values speak for other training seeds, too,
            and the i-th run of a side is paired with the i-th of the first.
        arms: name of one arm for each side; left out: the last one of each.
        primary: metric that was declared before looking, such as attainment, clip_score or skill; its p-values are
            adjusted over the sides by Holm, those of all others are exploratory and adjusted as false discoveries.
        margin: largest difference of the primary metric, in its own units, that does not matter; given, equivalence is
            tested, too. 0.1 of attainment is usual.

    Raises:
        InputError: if runs or arms cannot be compared.
    """
    if len(runs) < 2 or (arms is not None and len(arms) != len(runs)):
        raise InputError("give at least two runs, and either no arms or one for each run")
    first, *others = [read_side(run, arm) for run, arm in zip(runs, arms or [None] * len(runs), strict=True)]
    scaled = [with_attainment(side, first) for side in (first, *others)]
    p_values: dict[str, dict[str, float]] = {"primary": {}, "exploratory": {}}
    lines, equal = [], []
    for side, metrics in zip(others, scaled[1:], strict=True):
        check_comparable(first, side)
        shared = [name for name in scaled[0] if name in metrics]
        if not any(is_called(name, primary) for name in shared):
            known = sorted({name.split("[")[0].split("/")[0] for name in shared})
            raise InputError(f"no metric of both is called {primary}; choose from {', '.join(known)}")
        for name in shared:
            kind = "primary" if is_called(name, primary) else "exploratory"
            one, this = scaled[0][name], metrics[name]
            test = paired_difference(this.values, one.values, one.units, train_seeds=one.train_seeds)
            key = f"{side.runs}, {side.arm}: {name}"
            p_values[kind][key] = test.p_value
            lines.append((kind, key, [cell(one.mean), cell(this.mean), cell(test.difference), f"{test.p_value:.4f}"]))
            if margin is not None and kind == "primary":
                p = equivalence(this.values, one.values, one.units, margin, one.train_seeds)
                equal.append(f"{key}: equal to within {margin:g}? p = {p:.4f}")
    adjusted = holm(p_values["primary"]) | false_discoveries(p_values["exploratory"])
    print("\n".join([f"first: {first.runs}, {first.arm}", *differing(first, others), *equal]))
    order = sorted(lines, key=lambda line: (line[0] != "primary", line[1]))
    heading = ["", "run, arm: metric", "first", "this", "difference", "p", "adjusted"]
    print(markdown(heading, [[kind, key, *cells, f"{adjusted[key]:.4f}"] for kind, key, cells in order]))
    print(speaks_for(len(first.finished)))


@dataclass(frozen=True)
class Side:
    """One arm of one run, or of several that differ in their training seed.

    Attributes:
        runs: as given.
        arm: name of the arm.
        finished: the runs.
        metrics: name -> values of all runs.
        base: the same of the base.
    """

    runs: str
    arm: str
    finished: list[Finished]
    metrics: dict[str, Series]
    base: dict[str, Series]


def read_side(runs: str, arm: str | None) -> Side:
    """Read an arm of runs joined by commas."""
    finished = [read_finished(Path(run)) for run in runs.split(",")]
    names, found = zip(*(one.arm(arm) for one in finished), strict=True)
    return Side(runs, names[0], finished, joined(found), joined([one.arms[BASE] for one in finished]))


def with_attainment(side: Side, first: Side) -> dict[str, Series]:
    """Return a side's metrics, with attainment on the first one's scale; where that has no length there is none.

    The scale is taken as given. Attainments that runs have on their own scales are left out: each is 1 by itself there.
    """
    found = {name: one for name, one in side.metrics.items() if not is_called(name, "attainment")}
    for name, one in side.metrics.items():
        if is_called(name, "style") and name in first.metrics:
            zero = first.base[name].values.mean()
            span = first.metrics[name].values.mean() - zero
            if span > 0:
                values = (one.values - zero) / span
                found[name.replace("style[", "attainment[")] = Series(one.pictures, values, one.train_seeds)
    return found


def check_comparable(first: Side, side: Side) -> None:
    """Refuse sides that cannot be paired.

    Raises:
        InputError: if they have other prompts, seeds or held-out pictures, or another number of runs.
    """
    if len(side.finished) != len(first.finished):
        raise InputError(
            f"{side.runs} has another number of runs than {first.runs}; give as many training seeds on each side"
        )
    for run in (*first.finished, *side.finished):
        if run.dataset != first.finished[0].dataset:
            where = f"{run.folder} and {first.finished[0].folder}"
            raise InputError(f"{where} have other prompts or held-out pictures; test both with the same data")
    for name in first.metrics.keys() & side.metrics.keys():
        if first.metrics[name].pictures != side.metrics[name].pictures:
            raise InputError(f"{side.runs} and {first.runs} have other prompts or seeds; test both with the same data")


def differing(first: Side, others: Sequence[Side]) -> list[str]:
    """Return a line for each setting of model and data in which runs differ from the first, for it may matter."""
    lines = []
    reference = first.finished[0]
    for run in (run for side in (first, *others) for run in side.finished[side is first :]):
        for name in sorted(reference.settings.keys() | run.settings.keys()):
            one, other = reference.settings.get(name), run.settings.get(name)
            if one != other:
                lines.append(f"{run.folder} has {name} {other}, the first {one}")
    return lines


def is_called(name: str, metric: str) -> bool:
    """Tell whether a metric such as `style[mini]/ink` or `skill/ink` is called `style` or `skill`."""
    return name.split("[")[0].split("/")[0] == metric


def speaks_for(train_seeds: int) -> str:
    """Return for what the table speaks."""
    if train_seeds == 1:
        return "One training seed on each side: intervals and p-values speak for these adapters, not for their recipes."
    return f"{train_seeds} training seeds on each side: intervals and p-values allow for other ones."


def false_discoveries(p_values: dict[str, float]) -> dict[str, float]:
    """Return p-values adjusted to bound the share of false discoveries (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    adjusted: Sequence[float] = false_discovery_control(list(p_values.values())) if p_values else []
    return dict(zip(p_values, map(float, adjusted), strict=True))
