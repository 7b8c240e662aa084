"""Measures of sets of pictures: distance of each condition to real pictures, diversity and memorisation."""

from __future__ import annotations

from collections import Counter

import numpy as np
from torch import Tensor

from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.vectors import Vectors, scaled
from stylelora.metrics.coverage import COVERAGE, DENSITY, PRECISION, RECALL, expected_coverage, neighbourhoods
from stylelora.metrics.diversity import DIVERSITY, VENDI, by_prompt, mean_distance, vendi_score
from stylelora.metrics.frechet import FRECHET, frechet_distance, frechet_floor
from stylelora.metrics.kid import KID, kid_floor, kid_interval
from stylelora.metrics.measure import FLOOR
from stylelora.metrics.memorisation import MEMORISATION, memorisation
from stylelora.metrics.statistics import mean_interval, share_interval
from stylelora.records import Estimate


def measure_distribution(found: Measurements, vectors: Vectors) -> None:
    """Measure distance to held-out pictures, diversity and memorisation of the base and each adapter.

    Distances are from each condition to its own styles, and from the base to all. Compare them with FLOOR: the distance
    between two halves of the held-out pictures, and the coverage and share of apparent copies to expect of new
    pictures of the style itself. An adapter has to get below the base's own distance. The floor may be out of reach,
    because the prompts need not have the content of the held-out pictures.
    """
    prompts, judge = found.pictures.prompts, vectors.name
    real = {name: scaled(rows) for name, rows in vectors.held_out.items()}
    trained = {name: scaled(rows) for name, rows in vectors.training.items()}
    for one in found.pictures.conditions:
        own = scaled(vectors.made[one.name])
        if min(Counter(prompts).values()) > 1:
            distances = list(by_prompt(mean_distance, own, prompts).values())
            found.add(DIVERSITY.of(mean_interval(distances), one.name, judge))
        if len(own) < 2:
            continue
        found.add(VENDI.of(_plain(vendi_score(own), len(own)), one.name, judge, at=(len(own),)))
        for style in real if not one.weights else [name for name in one.weights if name in real]:
            _measure_distance(found, judge, one.name, style, own, real[style])
            if one.weights:
                _measure_copies(found, judge, one.name, style, own, trained[style], real[style])
    for style, rows in real.items():
        if len(rows) >= 4:
            found.add(KID.of(kid_floor(rows), FLOOR, judge, style))
            value, n, m = frechet_floor(rows)
            found.add(FRECHET.of(_plain(value, n), FLOOR, judge, style, (n, m)))


def _measure_distance(found: Measurements, judge: str, condition: str, style: str, own: Tensor, real: Tensor) -> None:
    prompts = found.pictures.prompts
    if len(set(prompts)) > 1:
        found.add(KID.of(kid_interval(own, real, groups=prompts), condition, judge, style))
    value, n, m = frechet_distance(own, real)
    found.add(FRECHET.of(_plain(value, n), condition, judge, style, (n, m)))
    if (count := min(n, m)) > 5:  # as many as there are held-out ones, spread over the prompts
        some = own[np.linspace(0, n - 1, count).round().astype(int)]
        for measure, share in zip((PRECISION, RECALL, DENSITY, COVERAGE), neighbourhoods(some, real), strict=True):
            found.add(measure.of(_plain(share, count), condition, judge, style, (count, m)))
        expected = _plain(expected_coverage(m, count), count)
        found.add(COVERAGE.of(expected, FLOOR, judge, style, (count, m)))


def _measure_copies(
    found: Measurements, judge: str, condition: str, style: str, own: Tensor, trained: Tensor, real: Tensor
) -> None:
    copies = memorisation(own, trained, real)
    found.pairs[condition, style, judge] = copies.index, copies.cosine
    found.add(MEMORISATION.of(share_interval(copies.copied, found.pictures.prompts), condition, judge, style))
    found.add(MEMORISATION.of(_plain(copies.expected, len(real)), FLOOR, judge, style))


def _plain(value: float, n: int) -> Estimate:
    """Return an estimate without an interval, because resampling would bias it."""
    return Estimate(value, -np.inf, np.inf, n)
