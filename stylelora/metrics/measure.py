"""What a measure is: its name, what it says, which way is better, and what to see it beside."""

from __future__ import annotations

from dataclasses import dataclass

from stylelora.records import Estimate, Metric, Quantity

FLOOR = "floor"  # stands for a condition in metrics that say what no difference looks like
MEASURES: dict[str, Measure] = {}  # all that were defined, by name


@dataclass(frozen=True)
class Measure:
    """One thing that can be measured; stands beside the function that does.

    Attributes:
        name: as in `result.json`.
        meaning: one line for the page.
        higher_is_better: direction.
        floor: meaning of its values for FLOOR; empty: it has none.
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
        """Return the metric that an estimate is.

        Args:
            estimate: of this measure.
            condition: whose, see `Metric`.
            judge: see `Quantity`, as are the next two.
            style: whose pictures or scale it refers to.
            at: what else it depends on.
            wanted: whether the condition was made to have this; of a style it was not made with, less is better.
        """
        numbers = (estimate.value, estimate.ci_low, estimate.ci_high, estimate.n)
        quantity = Quantity(self.name, judge, style, at)
        return Metric(*numbers, quantity, self.higher_is_better == wanted, condition)


def meaning(metric: Metric) -> str:
    """Return what a metric says, in one line."""
    measure = MEASURES[metric.quantity.measure]
    return measure.floor if metric.condition == FLOOR else measure.meaning
