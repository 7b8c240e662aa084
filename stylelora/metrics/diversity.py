"""Diversity of pictures of one prompt: detects the mode collapse that a Fréchet distance of 100 pictures rewards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylelora.metrics.kid import as_vectors
from stylelora.metrics.measure import Measure
from stylelora.records import InputError

DIVERSITY = Measure(
    "diversity", "mean cosine distance between the pictures of one prompt; lower than the base's: collapse"
)
VENDI = Measure(
    "vendi", "effective number of different pictures among so many; prompts differ, so compare conditions only"
)


def mean_distance(vectors: Tensor) -> float:
    """Return the mean cosine distance 1 - cos(x_i, x_j) over all pairs i != j, in [0, 2]; 0: same direction.

    Args:
        vectors: float (N, D), N >= 2, none of length 0.

    Raises:
        InputError: as for `as_vectors`, or a vector of length 0.
    """
    unit = _unit(vectors)
    n = len(unit)
    return float(((1 - unit @ unit.T).sum() - (1 - unit.square().sum(1)).sum()) / (n * (n - 1)))


def vendi_score(vectors: Tensor) -> float:
    """Return the effective number of different vectors, in [1, N]: exp(-sum_i l_i log l_i), l the eigenvalues of K / N.

    Friedman & Dieng 2023 ("The Vendi Score") with the kernel K_ij = cos(x_i, x_j). It is at most the rank of
    K and depends on N, so compare only sets of equal size.

    Args:
        vectors: float (N, D), N >= 2, none of length 0.

    Raises:
        InputError: as for `mean_distance`.
    """
    unit = _unit(vectors)
    shares = torch.linalg.svdvals(unit).square() / len(unit)  # the nonzero eigenvalues of K / N, none below 0
    return float(torch.special.entr(shares).sum().exp())


def by_prompt(
    measure: Callable[[Tensor], float], vectors: Tensor, prompts: Sequence[Hashable]
) -> dict[Hashable, float]:
    """Apply a measure to the pictures of each prompt separately; average the values over prompts afterwards.

    Over all pictures at once, a set would look diverse through its prompts alone, even if each prompt always gives the
    same picture. `mean_interval(list(by_prompt(mean_distance, ...).values()))` has prompts as units.

    Args:
        measure: such as `mean_distance` or `vendi_score`.
        vectors: float (N, D).
        prompts: of each picture (N,); each at least twice.

    Returns:
        value of each prompt, in order of appearance.

    Raises:
        InputError: as for `mean_distance`, not one prompt for each picture, or a prompt of one picture.
    """
    if isinstance(prompts, Tensor | np.ndarray):
        prompts = prompts.tolist()  # tensors of one element hash by identity
    if isinstance(prompts, str) or len(prompts) != len(vectors):
        raise InputError(f"Each picture needs one prompt, but there are {len(vectors)} and {len(prompts)}.")
    rows: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    for prompt, own in rows.items():
        if len(own) < 2:
            raise InputError(f"Prompt {prompt!r} has one picture, which differs from nothing: make it with more seeds.")
    return {prompt: measure(vectors[own]) for prompt, own in rows.items()}


def _unit(vectors: Tensor) -> Tensor:
    (rows,) = as_vectors(vectors)
    if not rows.any(1).all():
        raise InputError("A vector of length 0 has no direction to compare: look for the picture that gives it.")
    return F.normalize(rows, dim=1)
