"""Sides of a comparison: a condition of one run, or of several runs that differ in their training seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stylelora.evaluation.finished import Finished, Series, joined, read_finished
from stylelora.lora.read import BASE
from stylelora.metrics.comparison import Comparison, equivalence, paired_difference
from stylelora.metrics.contrast import compared, contrast, equal_within
from stylelora.metrics.nested import crossed
from stylelora.records import InputError, Quantity


@dataclass(frozen=True)
class Side:
    """One condition of one run, or of several runs that differ in their training seed.

    Attributes:
        runs: as given by the user.
        condition: name of the condition in the first run.
        styles: its styles.
        finished: the runs.
        series: quantity -> values of all runs.
        base: the same for the base.
    """

    runs: str
    condition: str
    styles: list[str]
    finished: list[Finished]
    series: dict[Quantity, Series]
    base: dict[Quantity, Series]

    @property
    def label(self) -> str:
        """Return a short name: the condition of the first run, and the number of further runs."""
        more = len(self.finished) - 1
        return f"{self.finished[0].folder}{f' and {more} more' * bool(more)}, {self.condition}"


def read_side(runs: str, condition: str | None) -> Side:
    """Read a condition of runs joined by commas; their adapters may have other names, but not other styles and weights.

    Raises:
        InputError: if a run has no such condition, or two runs have the same adapter.
    """
    folders = [Path(run) for run in runs.split(",") if run]
    if not folders or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            f"{runs or 'nothing'} is not a list of runs; give different folders, joined by commas without spaces"
        )
    finished = [read_finished(folder) for folder in folders]
    name, _ = finished[0].condition(condition)
    recipe, found = finished[0].recipes[name], []
    weights, _ = recipe
    for run in finished:
        if run is finished[0] or not weights:
            found.append(run.condition(name)[1])
            continue
        same = next((other for other, own in run.recipes.items() if own == recipe), None)
        if same is None:
            raise InputError(
                f"{run.folder} has no condition with the weights of {name}; it has {', '.join(run.conditions)}"
            )
        found.append(run.conditions[same])
    for number, run in enumerate(finished):
        if weights and any(run.adapters == other.adapters for other in finished[:number]):
            raise InputError(
                f"{run.folder} has the same adapters as an earlier run; join runs of different training seeds"
            )
    return Side(runs, name, list(weights), finished, joined(found), joined([one.conditions[BASE] for one in finished]))


def check_comparable(first: Side, side: Side) -> None:
    """Check that sides can be paired.

    Raises:
        InputError: if they are the same, or differ in prompts, seeds or held-out pictures.
    """
    folders = [{run.folder.resolve() for run in one.finished} for one in (first, side)]
    if folders[0] == folders[1] and first.condition == side.condition:
        raise InputError(f"{side.label} is compared with itself; give another run, or another of its conditions")
    for run in (*first.finished, *side.finished):
        if run.dataset != first.finished[0].dataset:
            where = f"{run.folder} and {first.finished[0].folder}"
            raise InputError(f"{where} differ in prompts or held-out pictures; test both with the same data")
    for quantity in first.series.keys() & side.series.keys():
        pictures = [one for series in (first.series, side.series) for one in series[quantity].by_run]
        if any(one != pictures[0] for one in pictures):
            raise InputError(f"{side.runs} and {first.runs} differ in prompts or seeds; test both with the same data")


def difference(this: Series, first: Series, paired: bool) -> Comparison:
    """Return how much higher one series is than another of the same pictures, with its p-value.

    Args:
        this: one or several runs.
        first: those to compare with.
        paired: the i-th runs of both belong together; else their training seeds are independent, and there may be more
            of one than of the other.
    """
    if paired:
        return paired_difference(this.values, first.values, first.units, train_seeds=first.train_seeds)
    sides = [crossed(one.values, one.train_seeds, one.units) for one in (this, first)]
    return compared(contrast(sides, (1, -1), False), min(len(one.table) for one in sides))


def equal(this: Series, first: Series, paired: bool, margin: float) -> float:
    """Return the p-value of two series' being further apart than a margin; as of `difference`."""
    if paired:
        return equivalence(this.values, first.values, first.units, margin, first.train_seeds)
    sides = [crossed(one.values, one.train_seeds, one.units) for one in (this, first)]
    return equal_within(contrast(sides, (1, -1), False), margin)


def differing(first: Side, side: Side) -> list[str]:
    """Return a line for each setting, adapters aside, in which a side's runs differ from the first: it may matter."""
    lines, reference = [], first.finished[0]
    for run in side.finished:
        for name in sorted(reference.settings.keys() | run.settings.keys()):
            one, other = reference.settings.get(name), run.settings.get(name)
            if one != other and name != "model.adapters":
                lines.append(f"{run.folder} has {name} {other}, the first {one}")
    return lines
