"""Measures: name, meaning, which direction is better, and the floor to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from stylelora.records import Estimate, Metric, Quantity

FLOOR = "floor"  # takes the place of a condition in metrics that give the value without a difference
MEASURES: dict[str, Measure] = {}  # all defined measures, by name


@dataclass(frozen=True)
class Measure:
    """A quantity that can be measured; define it next to the function that computes it.

    Attributes:
        name: as in `result.json`.
        meaning: one line for the page.
        higher_is_better: direction.
        floor: meaning of its value for FLOOR; empty: it has none.
    """

    name: str
    meaning: str
    higher_is_better: bool = True
    floor: str = ""

    def __post_init__(self) -> None:
        if MEASURES.setdefault(self.name, self) != self:
            raise ValueError(f"two measures are called {self.name}")

    def of(
        self,
        estimate: Estimate,
        condition: str | None = None,
        judge: str | None = None,
        style: str | None = None,
        at: tuple[int, ...] = (),
        *,
        wanted: bool = True,
    ) -> Metric:
        """Return an estimate of this measure as a metric.

        Args:
            estimate: of this measure.
            condition: whose, see `Metric`.
            judge: see `Quantity`, as are the next two.
            style: whose pictures or scale it refers to.
            at: what else it depends on.
            wanted: whether the condition is meant to have this; for a style it was not made with, less is better.
        """
        numbers = (estimate.value, estimate.ci_low, estimate.ci_high, estimate.n)
        quantity = Quantity(self.name, judge, style, at)
        return Metric(*numbers, quantity, self.higher_is_better == wanted, condition)


def meaning(metric: Metric) -> str:
    """Return the meaning of a metric in one line."""
    measure = MEASURES[metric.quantity.measure]
    return measure.floor if metric.condition == FLOOR else measure.meaning
