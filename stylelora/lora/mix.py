"""Weights and options of a blend, common to all methods.

With weights w_i the strength is s = sum w_i and the mixture pi_i = w_i / s; adapters of weight 0 are dropped first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stylelora.lora.factors import Factors
from stylelora.records import InputError


@dataclass(frozen=True)
class BlendOptions:
    """Options of the blending methods, besides the weights.

    Args:
        density: ties, dare and knots_ties: share of entries that are kept; above 0, at most 1.
        protection: np_lora: how much each adapter is protected from the others, 0..1.
        seed: dare: of its random draws.
        base_unconditional: composite and anchored: for the empty prompt the base predicts alone.
        regions: composite: where each adapter counts, one entry for each: left, right, top, bottom, or a picture that
            is white there.
        batched: while sampling: all predictions in one forward; false needs less memory, and gives the same.
    """

    density: float = 0.5
    protection: float = 1.0
    seed: int = 0
    base_unconditional: bool = False
    regions: list[str] | None = None
    batched: bool = True

    def check(self) -> None:
        """Check that options are within range.

        Raises:
            InputError: if density is not above 0 and at most 1, or protection not 0..1.
        """
        if not 0 < self.density <= 1 or not 0 <= self.protection <= 1:
            raise InputError(
                f"density is {self.density} and protection {self.protection}; both are shares, density above 0"
            )


@dataclass(frozen=True)
class MixSpec:
    """Adapters and their weights.

    Attributes:
        names: names of the adapters with a weight above 0.
        weights: their weights.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], weights: Sequence[float]) -> MixSpec:
        """Check weights and drop those that are 0.

        Raises:
            InputError: if names and weights differ in number, a name is repeated, or a weight is negative or not a
                number.
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
        name: name of the adapter; together with the layer's name it keys random draws.
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
