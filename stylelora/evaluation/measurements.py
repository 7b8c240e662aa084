"""Results of a test: metrics with intervals, values of each picture, and tests of predeclared endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from stylelora.evaluation.pictures import MadePictures
from stylelora.metrics.comparison import Comparison, holm
from stylelora.metrics.measure import Measure
from stylelora.metrics.statistics import mean_interval
from stylelora.records import Endpoint, Metric, Quantity


@dataclass
class Measurements:
    """Collects the results while a test is measured; see `measure_all`.

    Attributes:
        pictures: the measured pictures.
        values: values of each picture, condition -> quantity -> float64 (N,).
        pairs: (condition, style, judge) -> index of the nearest training picture of each picture, and their cosine.
    """

    pictures: MadePictures
    values: dict[str, dict[Quantity, np.ndarray]] = field(default_factory=dict)
    pairs: dict[tuple[str, str, str], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _metrics: dict[tuple[str | None, Quantity], Metric] = field(default_factory=dict)
    _declared: dict[tuple[str, Quantity], Comparison | None] = field(default_factory=dict)

    @property
    def metrics(self) -> list[Metric]:
        """Return all metrics, in the order in which they were first measured."""
        return list(self._metrics.values())

    @property
    def tests(self) -> list[Endpoint]:
        """Return the tests of all declared endpoints, Holm-adjusted over all judges so far.

        An endpoint that could not be measured is not among the tests that are adjusted. That keeps the error rate, as
        only a blend's may be missing, and only if an adapter's own gain, which is always tested, is not shown.
        """
        adjusted = holm({key: test.p_value for key, test in self._declared.items() if test is not None})
        return [
            Endpoint(*key, *((None,) * 3 if test is None else (test.difference.value, test.p_value, adjusted[key])))
            for key, test in self._declared.items()
        ]

    def metric(self, condition: str, quantity: Quantity) -> Metric | None:
        """Return a metric of a condition; None if it could not be measured."""
        return self._metrics.get((condition, quantity))

    def add(self, metric: Metric) -> None:
        """Record a metric; it replaces one of the same condition and quantity."""
        self._metrics[metric.condition, metric.quantity] = metric

    def keep(self, condition: str, quantity: Quantity, values: ArrayLike) -> None:
        """Record the values of a condition's pictures (N,)."""
        self.values.setdefault(condition, {})[quantity] = np.asarray(values, dtype=np.float64)

    def add_mean(
        self,
        condition: str,
        measure: Measure,
        values: ArrayLike,
        judge: str | None = None,
        style: str | None = None,
        *,
        wanted: bool = True,
    ) -> None:
        """Record the values of a condition's pictures (N,) and their mean over prompts; see `Measure.of`."""
        self.keep(condition, Quantity(measure.name, judge, style), values)
        mean = mean_interval(np.asarray(values, dtype=np.float64), self.pictures.prompts)
        self.add(measure.of(mean, condition, judge, style, wanted=wanted))

    def declare(self, condition: str, measure: Measure, judge: str, style: str | None, test: Comparison | None) -> None:
        """Record the test of a predeclared endpoint; None: it could not be measured."""
        self._declared[condition, Quantity(measure.name, judge, style)] = test
        if test is not None:
            self.add(measure.of(test.difference, condition, judge, style))

    def lines(self) -> list[dict]:
        """Return one record per picture with its values, as `compare` reads them."""
        return [
            {
                "condition": one.name,
                "weights": one.weights,
                "method": one.method,
                "content": content,
                "seed": seed,
                "file_name": file,
                "values": [
                    quantity.as_record() | {"value": float(values[i])}
                    for quantity, values in self.values.get(one.name, {}).items()
                ],
            }
            for one in self.pictures.conditions
            for i, (content, seed, file) in enumerate(zip(one.contents, one.seeds, one.files, strict=True))
        ]
