"""Blend LoRAs in weight space: every method under one meaning of the weights.

With weights w_i the strength is s = sum w_i and the mixture pi_i = w_i / s; adapters of weight 0 are dropped first.
A method merges the updates pi_i dW_i of one layer, and the result is multiplied by s. So all methods give the same
dose, and (1, 0) gives the first adapter alone (but for `iso_c`, which flattens a single spectrum, too).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from stylelora.lora.factors import Factors, nothing, orthonormalised, stacked, thin_svd
from stylelora.records import InputError
from stylelora.seeds import generator

Method = Literal["sum", "ties", "dare", "knots_ties", "tsv_m", "iso_c", "np_lora"]
OVERLAP = 1e-6  # regularises TSV-M where adapters share directions: its columns have length 1


@dataclass(frozen=True)
class MixSpec:
    """Which adapters, and how much of each.

    Attributes:
        names: of the adapters with a weight above 0.
        weights: theirs.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], weights: Sequence[float]) -> MixSpec:
        """Check weights and drop those that are 0.

        Raises:
            InputError: if names and weights differ in number, a name comes twice, a weight is negative or no number.
        """
        if len(names) != len(weights):
            raise InputError(f"{len(names)} adapters and {len(weights)} weights; give each adapter one weight")
        if len(set(names)) < len(names):
            raise InputError(f"an adapter is named twice in {', '.join(names)}; add its weights up or rename a file")
        bad = [weight for weight in weights if not math.isfinite(weight) or weight < 0]
        if bad:
            raise InputError(f"weight {bad[0]} is not a number of at least 0; give weights like 0.6 and 0.4")
        kept = [(name, float(weight)) for name, weight in zip(names, weights, strict=True) if weight]
        return cls(tuple(name for name, _ in kept), tuple(weight for _, weight in kept))

    @property
    def strength(self) -> float:
        """Return s, the sum of the weights; 0 means the base."""
        return math.fsum(self.weights)

    @property
    def shares(self) -> tuple[float, ...]:
        """Return pi, which sums to 1."""
        return tuple(weight / self.strength for weight in self.weights)


@dataclass(frozen=True)
class Part:
    """One adapter's share of one layer.

    Attributes:
        name: of the adapter; together with that of the layer it keys random draws.
        share: pi, above 0.
        update: dW.
    """

    name: str
    share: float
    update: Factors

    @property
    def weighted(self) -> Factors:
        """Return pi dW."""
        return self.update.scaled(self.share)


def weighted_sum(parts: Sequence[Part]) -> Factors:
    """Return sum pi_i dW_i, exact; what `set_adapters` of diffusers computes on the fly."""
    return stacked([part.weighted for part in parts])


def ties(parts: Sequence[Part], density: float = 0.5) -> Factors:
    """Merge by trimming, electing signs and summing those that agree, on weighted updates (Yadav et al. 2023, alg. 1).

    Unlike the paper's mean over those that agree, the sum keeps the strength: with density 1, one adapter is itself.

    Args:
        parts: of one layer.
        density: share of each update's entries that is kept, the largest; above 0, at most 1.
    """
    return _dense(_elected([_trimmed(part.weighted.dense(), density) for part in parts]))


def dare(parts: Sequence[Part], layer: str, density: float = 0.5, seed: int = 0) -> Factors:
    """Drop entries at random and scale the rest up, E[dW] = sum pi_i dW_i (Yu et al. 2024, eq. 2).

    Args:
        parts: of one layer.
        layer: its name. With the adapter's name and the seed it keys the draw, so the order of adapters is no matter.
        density: probability of keeping an entry; above 0, at most 1.
        seed: of the draws.
    """
    total = torch.zeros(())
    for part in sorted(parts, key=lambda part: part.name):  # one order of addition, so that rounding is the same, too
        update = part.weighted.dense()
        kept = torch.rand(update.shape, generator=generator("dare", seed, layer, part.name)) < density
        total = total + torch.where(kept.to(update.device), update / density, 0)
    return _dense(total)


def knots_ties(parts: Sequence[Part], density: float = 0.5) -> Factors:
    """Merge by TIES in a basis that the updates share (KnOTS; Stoica et al. 2025, section 4).

    [pi_1 dW_1 | pi_2 dW_2 | ...] = U S [V_1 | V_2 | ...]; the parts S V_i are merged, and U brings them back.

    Args:
        parts: of one layer.
        density: as in `ties`.
    """
    left, triangle = torch.linalg.qr(torch.cat([part.weighted.up for part in parts], 1))
    columns = triangle.split([part.update.up.shape[1] for part in parts], 1)
    beside = [block @ part.update.down for block, part in zip(columns, parts, strict=True)]  # (k, n) each
    rotation, s, _ = torch.linalg.svd(torch.cat(beside, 1), full_matrices=False)
    rotation = rotation[:, s > nothing(s)]  # U = left @ rotation, S V_i = rotation^T beside_i; no empty directions
    merged = _elected([_trimmed(rotation.T @ block, density) for block in beside])
    return Factors(left @ rotation, merged)


def tsv_m(parts: Sequence[Part], epsilon: float = OVERLAP) -> Factors:
    """Merge singular vectors after making them orthogonal (TSV-Merge; Gargiulo et al. 2025, section 4.3), regularised.

    It leaves the sum behind where adapters share directions: of an adapter blended with itself little more than half
    its strength is left.

    Args:
        parts: of one layer.
        epsilon: see `orthonormalised`.
    """
    if len(parts) == 1:
        return parts[0].weighted
    svds = [_nonzero(*thin_svd(part.update)) for part in parts]
    left = orthonormalised(torch.cat([u for u, _, _ in svds], 1), epsilon)
    right = orthonormalised(torch.cat([vh for _, _, vh in svds]).T, epsilon)
    values = torch.cat([part.share * s for part, (_, s, _) in zip(parts, svds, strict=True)])
    return Factors(left * values, right.T)


def iso_c(parts: Sequence[Part]) -> Factors:
    """Give all directions of the sum one strength (Iso-C; Marczak et al. 2025, eq. 5), the root mean square of theirs.

    The norm of the sum is kept. A single adapter is changed, too: measure against this method's own single style.
    """
    u, s, vh = _nonzero(*thin_svd(weighted_sum(parts)))
    return Factors(u * s.square().mean().sqrt(), vh)


def np_lora(parts: Sequence[Part], protection: float = 1.0) -> Factors:
    """Keep each update out of the input directions of the others (NP-LoRA, arXiv 2511.11051), in all orders alike.

    The paper protects one adapter: dW_1 + dW_2 (I - rho V_1 V_1^T), V_1 the right singular vectors of dW_1. Here the
    mean over which adapter is protected is taken, so no order matters.

    Args:
        parts: of one layer.
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


def check_shares(density: float, protection: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: if density is not above 0 and at most 1, or protection not 0..1.
    """
    if not 0 < density <= 1 or not 0 <= protection <= 1:
        raise InputError(f"density is {density} and protection {protection}; both are shares, density above 0")


def merged(
    parts: Sequence[Part], layer: str, method: Method, density: float = 0.5, protection: float = 1.0, seed: int = 0
) -> Factors:
    """Merge the parts of one layer by the method of this name.

    Args:
        parts: of one layer, none of share 0.
        layer: its name.
        method: which one.
        density: of `ties`, `dare` and `knots_ties`.
        protection: of `np_lora`.
        seed: of `dare`.
    """
    match method:
        case "sum":
            return weighted_sum(parts)
        case "ties":
            return ties(parts, density)
        case "dare":
            return dare(parts, layer, density, seed)
        case "knots_ties":
            return knots_ties(parts, density)
        case "tsv_m":
            return tsv_m(parts)
        case "iso_c":
            return iso_c(parts)
        case "np_lora":
            return np_lora(parts, protection)
        case _:
            raise InputError(f"no method is called {method!r}; choose from {', '.join(get_args(Method))}")


def _nonzero(u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kept = s > nothing(s)
    return u[:, kept], s[kept], vh[kept]


def _dense(update: Tensor) -> Factors:
    """Return a dense update as factors, without loss."""
    like = {"dtype": update.dtype, "device": update.device}
    if update.shape[0] < update.shape[1]:
        return Factors(torch.eye(update.shape[0], **like), update)
    return Factors(update, torch.eye(update.shape[1], **like))


def _trimmed(update: Tensor, density: float) -> Tensor:
    """Keep the entries of largest magnitude."""
    if density == 1:
        return update
    kept = max(1, round(density * update.numel()))
    smallest = update.abs().flatten().kthvalue(update.numel() - kept + 1).values
    return torch.where(update.abs() >= smallest, update, 0)


def _elected(updates: Sequence[Tensor]) -> Tensor:
    """Sum what has the sign of the whole."""
    sign = torch.stack(tuple(updates)).sum(0).sign()
    return torch.stack([torch.where(update.sign() == sign, update, 0) for update in updates]).sum(0)
