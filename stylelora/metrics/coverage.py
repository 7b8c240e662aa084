"""Fidelity and variety by nearest neighbours: precision and recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylelora.metrics.kid import as_vectors
from stylelora.metrics.measure import Measure
from stylelora.records import InputError

PRECISION = Measure("precision", "share of pictures that lie among held-out ones")
RECALL = Measure("recall", "share of held-out pictures that lie among the made ones")
DENSITY = Measure("density", "how densely held-out pictures surround the made ones; 1 at equality")
COVERAGE = Measure(
    "coverage",
    "share of held-out pictures that have a made one near",
    floor="the same to expect if the made pictures were drawn from the style itself",
)


class Neighbourhoods(NamedTuple):
    """Precision, recall, density and coverage of generated vectors against references.

    Attributes:
        precision: share of generated vectors inside the ball of any reference, in [0, 1].
        recall: share of references inside the ball of any generated vector, in [0, 1].
        density: mean number of reference balls that contain a generated vector, divided by k; >= 0, 1 on average if
            distributions are equal.
        coverage: share of references whose ball contains a generated vector, in [0, 1]; see `expected_coverage`.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(generated: Tensor, references: Tensor, k: int = 5) -> Neighbourhoods:
    """Compute precision and recall (Kynkäänniemi et al. 2019, eq. 1-2), density and coverage (Naeem et al. 2020).

    The ball of a vector reaches to its k-th nearest neighbour in its own set, itself not counted, border included.
    Precision and recall can be near 1 for wrong sets, since one outlier's ball is huge, and have no known value for
    equal distributions. Density counts all balls instead of testing for any; coverage uses balls around references
    only. Rotating, shifting or scaling all vectors changes nothing.

    Args:
        generated: vectors float (N, D), N > k.
        references: vectors float (M, D), M > k; take N = M, since coverage grows with N / M.
        k: neighbours within a ball, >= 1.

    Raises:
        InputError: as for `as_vectors`, or not more than k vectors.
    """
    if k < 1:
        raise InputError(f"A ball holds at least one neighbour, not k = {k}.")
    generated, references = as_vectors(generated, references, least=max(2, k + 1))
    between = _distances(references, generated)
    in_reference = between <= _radii(references, k)[:, None]  # (M, N)
    in_generated = between <= _radii(generated, k)[None, :]
    return Neighbourhoods(
        precision=in_reference.any(0).double().mean().item(),
        recall=in_generated.any(1).double().mean().item(),
        density=in_reference.sum(0).double().mean().item() / k,
        coverage=in_reference.any(1).double().mean().item(),
    )


def expected_coverage(references: int, generated: int, k: int = 5) -> float:
    """Return the expected coverage of a perfect generator, 1 - prod_{j=1..k} (M - j) / (M + N - j) (Naeem et al. 2020).

    A ball is empty if the k nearest to its centre, among M - 1 references and N generated vectors, are all references;
    with equal distributions every order is equally likely. This is exact for any distribution without ties.

    Args:
        references: their number M > k.
        generated: their number N >= 1.
        k: neighbours within a ball, >= 1.

    Raises:
        InputError: not more than k references, or none generated.
    """
    if not 1 <= k < references or generated < 1:
        raise InputError(f"Coverage needs 1 <= k < references, not k = {k} of {references}, and generated pictures.")
    drawn = np.arange(1, k + 1)
    return float(1 - np.prod((references - drawn) / (references + generated - drawn)))


def _radii(rows: Tensor, k: int) -> Tensor:
    """Return each row's distance to its k-th neighbour: the k + 1 smallest hold its distance 0 to itself."""
    return _distances(rows, rows).kthvalue(k + 1, dim=1).values


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # by differences: the faster |x|^2 + |y|^2 - 2 xy gives exact copies a distance above 0
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
