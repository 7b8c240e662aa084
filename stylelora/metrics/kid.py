"""Kernel Inception distance: the distance of two sets of feature vectors, unbiased at any size."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from stylelora.metrics.measure import Measure
from stylelora.records import Estimate, InputError

KID = Measure(
    "kid",
    "unbiased kernel distance to held-out pictures, about 0 at equality, to be seen beside the base's own",
    higher_is_better=False,
    floor="the same between two halves of the held-out pictures: how far equal ones scatter at half the number",
)


def as_vectors(*sets: Tensor, least: int = 2) -> list[Tensor]:
    """Validate sets of vectors and return them as float64 on the CPU.

    Args:
        sets: float (N_i, D) each, finite.
        least: minimum number of rows of each.

    Raises:
        InputError: not a matrix, too few rows, different widths, or numbers that are not finite.
    """
    for rows in sets:
        if rows.ndim != 2 or len(rows) < least or not rows.shape[1] or not torch.isfinite(rows).all():
            raise InputError(
                f"Vectors must be a matrix of at least {least} rows, one for each picture, all finite, but have shape "
                f"{tuple(rows.shape)}: encode more pictures, or look for the one that gives no number."
            )
    if len({rows.shape[1] for rows in sets}) > 1:
        raise InputError(
            f"Vectors of widths {', '.join(str(rows.shape[1]) for rows in sets)} come from different encoders: "
            "encode all pictures with the same one."
        )
    return [rows.detach().to("cpu", torch.float64) for rows in sets]


def kid(x: Tensor, y: Tensor) -> float:
    """Return the KID (Bińkowski et al. 2018, "Demystifying MMD GANs"): unbiased squared MMD, all pairs, no subsets.

    KID = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j),   k(a, b) = (a·b / D + 1)^3.

    For equal distributions the mean is 0, so about half of all values are negative; clamping them would reintroduce
    bias. Rotating all vectors changes nothing; scaling or shifting them does, so values of different encoders are not
    comparable.

    The kernel expects entries of about 1, such as Inception's. For unit vectors, a·b / D is tiny, the cube is almost
    linear, and only the means are compared: a set collapsed to its mean would pass. Multiply such vectors by √D first,
    so that the kernel depends on their cosine.

    Args:
        x: vectors float (N, D), N >= 2.
        y: vectors float (M, D), M >= 2.

    Raises:
        InputError: as for `as_vectors`.
    """
    x, y = as_vectors(x, y)
    return float(_mean_of_pairs(_kernel(x, x)) + _mean_of_pairs(_kernel(y, y)) - 2 * _kernel(x, y).mean())


def kid_interval(
    generated: Tensor,
    references: Tensor,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Return the KID with its percentile bootstrap interval; both sets are resampled, pairs within a unit excluded.

    A resample contains some pictures twice, and k(x, x) is large: counted as a pair, it would move the whole interval
    above the estimate. Pictures of one prompt resemble one another, so they are not independent pairs either: with
    them, the estimate is above 0 for a perfect generator. So only pairs of different prompts count, in the estimate and
    in every resample. If the two distributions are equal, the interval covers more than its level says.

    Args:
        generated: vectors float (N, D).
        references: vectors float (M, D); resampled picture by picture.
        groups: prompt of each generated picture (N,): whole prompts are resampled; by default each picture alone.
        level: coverage of the interval, in (0, 1). With fewer than about 10 units, the true coverage is lower.
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the global generators are not used.

    Returns:
        `n` is the number of prompts. Without groups, that of pictures, and `value` is `kid`.

    Raises:
        InputError: as for `as_vectors`, not one group for each generated picture, or only one group.
    """
    x, y = as_vectors(generated, references)
    keys = list(range(len(x))) if groups is None else groups
    keys = keys.tolist() if isinstance(keys, Tensor | np.ndarray) else keys  # tensors of one element hash by identity
    units = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    if len(keys) != len(x) or len(units) < 2:
        raise InputError(
            f"Each picture needs its group, of at least two, but there are {len(x)} pictures, {len(keys)} groups, "
            f"{len(units)} different."
        )
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level must lie between 0 and 1 and resamples be at least 1, not {level} and {resamples}.")
    member = torch.zeros(len(units), len(x), dtype=torch.float64)
    member[[units[key] for key in keys], torch.arange(len(x))] = 1
    sizes = member.sum(1)
    kernel_x, kernel_y, between = member @ _kernel(x, x) @ member.T, _kernel(y, y), member @ _kernel(x, y)
    ones = torch.ones(len(y), dtype=torch.float64)

    def of(w: Tensor, v: Tensor) -> np.ndarray:
        """Return the KID of sets with each unit w times, (R, units), and each reference v times, (R, M)."""
        cross = ((w @ between) * v).sum(1) / ((w @ sizes) * v.sum(1))
        return (_mean_within(w, kernel_x, sizes) + _mean_within(v, kernel_y, ones) - 2 * cross).numpy()

    generator = np.random.default_rng(seed)
    draws = (generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in (len(units), len(y)))
    values = of(*(torch.from_numpy(draw).double() for draw in draws))
    values = values[np.isfinite(values)]  # with very few units, a resample may contain no pair
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if len(values) else (-np.inf, np.inf)
    value = of(torch.ones(1, len(units), dtype=torch.float64), ones[None])
    return Estimate(float(value[0]), float(low), float(high), len(units))


def kid_floor(references: Tensor, splits: int = 1000, seed: int = 0) -> Estimate:
    """Return the KID between random halves of one set: the range of values without a difference.

    The mean over all splits is exactly 0, since each pair of pictures is as often within as between halves; only the
    spread is informative. Sets twice as large have half the spread.

    Args:
        references: vectors float (N, D), N >= 4.
        splits: random halvings.
        seed: seed of the halvings; the global generators are not used.

    Returns:
        mean over splits, with the range that holds 95 % of them as its interval; `n` is the size of a half.

    Raises:
        InputError: as for `as_vectors`, or no split.
    """
    (x,) = as_vectors(references, least=4)
    if splits < 1:
        raise InputError(f"A floor needs at least one split, not {splits}.")
    n, half = len(x), len(x) // 2
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (splits, 1)), axis=1)
    first = torch.from_numpy(order < half).double()
    second = 1 - first
    kernel, ones = _kernel(x, x), torch.ones(n, dtype=torch.float64)
    between = ((first @ kernel) * second).sum(1) / (half * (n - half))
    values = _mean_within(first, kernel, ones) + _mean_within(second, kernel, ones) - 2 * between
    low, high = np.quantile(values.numpy(), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), half)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.trace()) / (n * (n - 1))


def _mean_within(counts: Tensor, sums: Tensor, sizes: Tensor) -> Tensor:
    """Return the mean of k over a resample's pairs of pictures of different units.

    Args:
        counts: how often each resample holds each unit, (R, units).
        sums: of k over the pairs of pictures of two units, (units, units).
        sizes: pictures in each unit, (units,).
    """
    total = ((counts @ (sums - sums.diag().diag())) * counts).sum(1)
    return total / ((counts @ sizes) ** 2 - counts**2 @ sizes**2)
