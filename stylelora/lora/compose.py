"""Blend LoRAs in weight space; weights mean the same for every method.

With strength s and mixture pi as in `stylelora.lora.mix`, a method merges the updates pi_i dW_i of one layer, and the
result is multiplied by s. So strength is comparable between methods, and (1, 0) gives the first adapter alone (except
for `iso_c`, which flattens even a single spectrum).

To add a method, write one function here with the decorator `@method`; it is then available everywhere by its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from stylelora.lora.factors import Factors, nothing, orthonormalised, stacked, thin_svd
from stylelora.lora.mix import BlendOptions, Part
from stylelora.records import InputError
from stylelora.seeds import generator

OVERLAP = 1e-6  # regularises TSV-M, whose columns have length 1, where adapters share directions


#: Every method by its name; from the parts of a layer, and what else it asks for, to the layer's blended update.
METHODS: dict[str, Callable[..., Factors]] = {}
#: Those whose result is of full rank, not the sum of the ranks.
FULL_RANK: set[str] = set()


def method(name: str, full_rank: bool = False) -> Callable[[Callable[..., Factors]], Callable[..., Factors]]:
    """Register a function as a blending method.

    Args:
        name: name of the method.
        full_rank: whether the result is of full rank.

    Returns:
        decorator of a function of `parts`, of one layer and none of share 0; its other parameters may be `layer`, the
        layer's name, and fields of BlendOptions, which are passed by name.
    """

    def add(function: Callable[..., Factors]) -> Callable[..., Factors]:
        METHODS[name] = function
        FULL_RANK.update([name] * full_rank)
        return function

    return add


def merged(parts: Sequence[Part], layer: str, name: str, options: BlendOptions = BlendOptions()) -> Factors:
    """Merge the parts of one layer.

    Args:
        parts: parts of one layer, none of share 0.
        layer: name of the layer.
        name: name of the method.
        options: options of the methods.

    Raises:
        InputError: if no method has this name.
    """
    if name not in METHODS:
        raise InputError(f"no method is called {name!r}; choose from {', '.join(METHODS)}")
    wanted = inspect.signature(METHODS[name]).parameters
    offered = {"layer": layer, **asdict(options)}
    return METHODS[name](parts, **{key: value for key, value in offered.items() if key in wanted})


@method("sum")
def weighted_sum(parts: Sequence[Part]) -> Factors:
    """Add the weighted updates: exactly sum pi_i dW_i, as diffusers' `set_adapters` computes it on the fly."""
    return stacked([part.weighted for part in parts])


@method("ties", full_rank=True)
def ties(parts: Sequence[Part], density: float = 0.5) -> Factors:
    """Add only what the updates agree on: TIES trims, elects signs, sums (Yadav et al. 2023, alg. 1).

    The paper averages the entries that agree; the sum keeps the strength: with density 1, one adapter is unchanged.

    Args:
        parts: parts of one layer.
        density: share of each update's entries that is kept, largest first; above 0, at most 1.
    """
    return _dense(_elected([_trimmed(part.weighted.dense(), density) for part in parts]))


@method("dare", full_rank=True)
def dare(parts: Sequence[Part], layer: str, density: float = 0.5, seed: int = 0) -> Factors:
    """Drop numbers at random and enlarge the rest: DARE, E[dW] = sum pi_i dW_i (Yu et al. 2024, eq. 2).

    Args:
        parts: parts of one layer.
        layer: its name. With the adapter's name and the seed it keys the draw, so the adapters' order does not matter.
        density: probability of keeping an entry; above 0, at most 1.
        seed: seed of the draws.
    """
    total = torch.zeros(())
    for part in sorted(parts, key=lambda part: part.name):  # fixed order of addition, for equal rounding
        update = part.weighted.dense()
        kept = torch.rand(update.shape, generator=generator("dare", seed, layer, part.name)) < density
        total = total + torch.where(kept.to(update.device), update / density, 0)
    return _dense(total)


@method("knots_ties")
def knots_ties(parts: Sequence[Part], density: float = 0.5) -> Factors:
    """Add only what the updates agree on, in a basis they share: KnOTS with TIES (Stoica et al. 2025, section 4).

    [pi_1 dW_1 | pi_2 dW_2 | ...] = U S [V_1 | V_2 | ...]; the parts S V_i are merged, and U brings them back.

    Args:
        parts: parts of one layer.
        density: as in `ties`.
    """
    left, triangle = torch.linalg.qr(torch.cat([part.weighted.up for part in parts], 1))
    columns = triangle.split([part.update.up.shape[1] for part in parts], 1)
    beside = [block @ part.update.down for block, part in zip(columns, parts, strict=True)]  # (k, n) each
    rotation, s, _ = torch.linalg.svd(torch.cat(beside, 1), full_matrices=False)
    rotation = rotation[:, s > nothing(s)]  # U = left @ rotation, S V_i = rotation^T beside_i; no empty directions
    merged = _elected([_trimmed(rotation.T @ block, density) for block in beside])
    return Factors(left @ rotation, merged)


@method("tsv_m")
def tsv_m(parts: Sequence[Part], epsilon: float = OVERLAP) -> Factors:
    """Make the main directions of the updates independent, then add: regularised TSV-Merge (Gargiulo et al. 2025, 4.3).

    The result is weaker than the sum where adapters share directions: an adapter blended with itself keeps little more
    than half its strength.

    Args:
        parts: parts of one layer.
        epsilon: see `orthonormalised`.
    """
    if len(parts) == 1:
        return parts[0].weighted
    svds = [_nonzero(*thin_svd(part.update)) for part in parts]
    left = orthonormalised(torch.cat([u for u, _, _ in svds], 1), epsilon)
    right = orthonormalised(torch.cat([vh for _, _, vh in svds]).T, epsilon)
    values = torch.cat([part.share * s for part, (_, s, _) in zip(parts, svds, strict=True)])
    return Factors(left * values, right.T)


@method("iso_c")
def iso_c(parts: Sequence[Part]) -> Factors:
    """Give all directions of the sum the same strength: their root mean square, Iso-C (Marczak et al. 2025, eq. 5).

    The norm of the sum is kept. A single adapter changes, too, so compare with a single style under this same method.
    """
    u, s, vh = _nonzero(*thin_svd(weighted_sum(parts)))
    return Factors(u * s.square().mean().sqrt(), vh)


@method("np_lora")
def np_lora(parts: Sequence[Part], protection: float = 1.0) -> Factors:
    """Keep each update out of the directions of the others: NP-LoRA (arXiv 2511.11051), made symmetric.

    The paper protects one adapter: dW_1 + dW_2 (I - rho V_1 V_1^T), V_1 the right singular vectors of dW_1. Here the
    result is averaged over the choice of protected adapter, so the order does not matter.

    Args:
        parts: parts of one layer.
        protection: rho, 0..1; 0 is the weighted sum.
    """
    if len(parts) == 1:
        return parts[0].weighted
    bases = [_nonzero(*thin_svd(part.update))[2] for part in parts]
    merged = []
    for part in parts:
        down = part.update.down
        for basis, other in zip(bases, parts, strict=True):
            if other is not part:
                down = down - protection / len(parts) * (part.update.down @ basis.T) @ basis
        merged.append(Factors(part.weighted.up, down))
    return stacked(merged)


def _nonzero(u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kept = s > nothing(s)
    return u[:, kept], s[kept], vh[kept]


def _dense(update: Tensor) -> Factors:
    """Factorise a dense update exactly."""
    like = {"dtype": update.dtype, "device": update.device}
    if update.shape[0] < update.shape[1]:
        return Factors(torch.eye(update.shape[0], **like), update)
    return Factors(update, torch.eye(update.shape[1], **like))


def _trimmed(update: Tensor, density: float) -> Tensor:
    """Keep the entries of largest magnitude; set the others to 0."""
    if density == 1:
        return update
    kept = max(1, round(density * update.numel()))
    smallest = update.abs().flatten().kthvalue(update.numel() - kept + 1).values
    return torch.where(update.abs() >= smallest, update, 0)


def _elected(updates: Sequence[Tensor]) -> Tensor:
    """Sum the entries whose sign agrees with that of the total."""
    sign = torch.stack(tuple(updates)).sum(0).sign()
    return torch.stack([torch.where(update.sign() == sign, update, 0) for update in updates]).sum(0)
