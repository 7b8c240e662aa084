"""Fréchet distance between sets of feature vectors, numerically exact at any size, reported with the set sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylelora.metrics.kid import as_vectors
from stylelora.metrics.measure import Measure
from stylelora.records import InputError

FRECHET = Measure(
    "frechet",
    "Fréchet distance of so many pictures to so many held-out ones; biased when few: compare equal n only",
    higher_is_better=False,
    floor="the same between two halves of the held-out pictures; so few are biased upwards more than the conditions",
)


class Frechet(NamedTuple):
    """A Fréchet distance with the sizes of both sets, without which it cannot be interpreted.

    Attributes:
        value: squared distance, >= 0.
        n: vectors in the first set.
        m: vectors in the second.
    """

    value: float
    n: int
    m: int

    def __str__(self) -> str:
        return f"{self.value:.4g}@({self.n},{self.m})"


def frechet_distance(x: Tensor, y: Tensor) -> Frechet:
    """Return the FID (Heusel et al. 2017, eq. 6) of any features: squared 2-Wasserstein distance of fitted Gaussians.

    |mu_x - mu_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2)), S over n - 1. With S_x = Xc^T Xc and Xc = (X - mu_x) / √(n-1),
    the last trace is the nuclear norm |Xc Yc^T|_*, a sum of at most min(n, m) singular values: no root of a singular
    matrix D x D, where the usual computation loses precision at n < D.

    Report it second to KID, since it is biased at small n. With 100 vectors of 1000 dimensions of variances 1/i, two
    samples of one distribution are 3/4 of its whole variance apart, and a generator that varies too little comes out
    *nearer* than one that is right. The bias depends on n, m and the generator, so equal sizes do not cancel it. Never
    bootstrap it: a resample repeats vectors, so it spans fewer dimensions and its bias is larger than the estimate's
    own; the interval lies above the truth. `frechet_floor` gives the value to expect without any difference.

    Args:
        x: vectors float (N, D), N >= 2.
        y: vectors float (M, D), M >= 2.

    Raises:
        InputError: as for `as_vectors`.
    """
    x, y = as_vectors(x, y)
    return Frechet(_distance(x, y), len(x), len(y))


def frechet_floor(references: Tensor, splits: int = 20, seed: int = 0) -> Frechet:
    """Return the mean Fréchet distance between random halves of one set: the value without a difference at that size.

    Args:
        references: vectors float (N, D), N >= 4.
        splits: random halvings.
        seed: seed of the halvings; the global generators are not used.

    Returns:
        with the sizes of the halves; a set compared at twice the size has a lower floor.

    Raises:
        InputError: as for `as_vectors`, or no split.
    """
    (x,) = as_vectors(references, least=4)
    if splits < 1:
        raise InputError(f"A floor needs at least one split, not {splits}.")
    half = len(x) // 2
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(x)) for _ in range(splits)]
    mean = np.mean([_distance(x[order[:half]], x[order[half:]]) for order in orders])
    return Frechet(float(mean), half, len(x) - half)


def _distance(x: Tensor, y: Tensor) -> float:
    mean_x, mean_y = x.mean(0), y.mean(0)
    # Q of QR cancels in every norm below, which leaves at most D rows of a large set
    x, y = (
        torch.linalg.qr((rows - mean) / (len(rows) - 1) ** 0.5, mode="r").R for rows, mean in ((x, mean_x), (y, mean_y))
    )
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return float((mean_x - mean_y).square().sum() + spread.clamp(min=0))  # rounding can make it negative
