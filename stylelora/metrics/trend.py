"""Trend: do values rise or fall along ordered levels? By ranks, so that the shape of the response does not matter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stylelora.metrics.statistics import finite
from stylelora.records import InputError


@dataclass(frozen=True)
class Trend:
    """A monotone trend over ordered levels.

    Attributes:
        tau: Kendall's rank correlation tau-b of level and value, in [-1, 1]: 1 if every value of a higher level is
            larger.
        p_value: two-sided.
        least: smallest p-value that so many values can have.
    """

    tau: float
    p_value: float
    least: float


def trend(levels: ArrayLike, values: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Trend:
    """Test a monotone trend by permutation: the test of Jonckheere (1954) and Terpstra (1952), two-sided.

    Its statistic counts the pairs of different levels in which the higher level has the larger value, minus those in
    which it has the smaller. It is compared with those of all assignments of the values to the levels, if there are no
    more than `resamples`, else of that many random ones, with the data's own counted among them. Nothing but the
    independence of the values is assumed; give one value per training seed, its mean over the prompts.

    Args:
        levels: level of each value as a number; only their order counts, (N,).
        values: finite numbers (N,).
        resamples: at most so many assignments.
        seed: seed of the random ones; the global generators are not used.

    Raises:
        InputError: fewer than two levels, values that are not finite, or rows of different lengths.
    """
    levels, values = finite(levels, "levels"), finite(values, "values")
    counts = np.unique(levels, return_counts=True)[1]
    if len(levels) != len(values) or len(counts) < 2:
        raise InputError("A trend needs a value for each of at least two levels.")
    one, other = np.triu_indices(len(levels), 1)
    steps = np.sign(values[one] - values[other])

    def score(orders: Iterable[ArrayLike]) -> np.ndarray:
        rows = (np.asarray(order) for order in orders)
        return np.array([np.sign(row[one] - row[other]) @ steps for row in rows])

    (own,) = score([levels])
    orders = math.factorial(len(levels)) // math.prod(map(math.factorial, counts.tolist()))
    if orders <= resamples:
        extreme = np.mean(np.abs(score(_arrangements(np.sort(levels).tolist()))) >= abs(own))
    else:
        generator = np.random.default_rng(seed)
        drawn = (generator.permutation(levels) for _ in range(resamples - 1))
        extreme = (1 + np.sum(np.abs(score(drawn)) >= abs(own))) / resamples
    pairs = [np.count_nonzero(row[one] != row[other]) for row in (levels, values)]
    tau = float(own / math.sqrt(math.prod(pairs))) if all(pairs) else 0.0
    return Trend(tau, float(extreme), 2 / orders if orders <= resamples else 1 / resamples)


def _arrangements(levels: list[float]) -> Iterator[tuple[float, ...]]:
    """Yield each distinct arrangement of sorted levels once."""
    if not levels:
        yield ()
    for level, _ in itertools.groupby(levels):
        rest = levels.copy()
        rest.remove(level)
        for tail in _arrangements(rest):
            yield (level, *tail)
