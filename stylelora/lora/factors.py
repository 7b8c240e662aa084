"""Low-rank updates dW = up @ down, and algebra on them that never builds the dense matrix.

Shapes: m outputs, n inputs (of a convolution inputs x kernel), r the rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """A low-rank update dW = up @ down, its scale alpha / rank folded in.

    Attributes:
        up: float (m, r).
        down: float (r, n).
    """

    up: Tensor
    down: Tensor

    def dense(self) -> Tensor:
        """Return dW, float (m, n)."""
        return self.up @ self.down

    def scaled(self, factor: float) -> Factors:
        """Return factors of `factor` dW."""
        return Factors(self.up * factor, self.down)


@contextmanager
def added_to(weights: Sequence[Tensor], updates: Sequence[Factors]) -> Iterator[None]:
    """Run the block with updates added to weights, one to each, then restore the weights exactly."""
    before = [weight.data for weight in weights]
    try:
        for weight, update in zip(weights, updates, strict=True):
            delta = update.up.to(weight.device) @ update.down.to(weight.device)
            weight.data = (weight.data + delta.view(weight.shape)).to(weight.dtype)
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data


@dataclass(frozen=True)
class Layer:
    """The tensors of one layer as a LoRA file holds them: dW = alpha / rank * up @ down.

    Attributes:
        down: float (r, inputs), or (r, channels, height, width) of a convolution.
        up: float (m, r), or (m, r, 1, 1).
        alpha: numerator of the scale, above 0.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Return r."""
        return len(self.down)

    @property
    def update(self) -> Factors:
        """Return the update, fp32; of a convolution over its unrolled kernel."""
        return Factors(self.up.float().flatten(1) * (self.alpha / self.rank), self.down.float().flatten(1))

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the shape of the layer's input weights: (n,), or (channels, height, width) of a convolution."""
        return tuple(self.down.shape[1:])

    @classmethod
    def of(cls, update: Factors, kernel: Sequence[int]) -> Layer:
        """Return an update as tensors with alpha = rank."""
        rank = update.up.shape[1]
        up = update.up.reshape(*update.up.shape, *[1] * (len(kernel) - 1))
        return cls(update.down.reshape(rank, *kernel), up, float(rank))


def stacked(parts: Sequence[Factors]) -> Factors:
    """Return exact factors of the sum, of rank r_1 + r_2 + ..."""
    return Factors(torch.cat([part.up for part in parts], 1), torch.cat([part.down for part in parts]))


def inner(first: Factors, second: Factors) -> float:
    """Return the Frobenius inner product <dW_1, dW_2> from the factors."""
    return float(((first.up.T @ second.up) * (first.down @ second.down.T)).sum())


def thin_svd(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, k), S (k,), Vh (k, n) of dW with k = min(m, r, n), in O((m + n) r^2): two QRs and a small SVD."""
    left, left_triangle = torch.linalg.qr(factors.up)
    right, right_triangle = torch.linalg.qr(factors.down.T)
    u, s, vh = torch.linalg.svd(left_triangle @ right_triangle.T, full_matrices=False)
    return left @ u, s, vh @ right.T


def nothing(values: Tensor) -> float:
    """Return the threshold below which singular values, float (k,), are rounding errors: about 30 machine epsilons."""
    return float(values.max()) * 30 * len(values) * torch.finfo(values.dtype).eps


def truncated(factors: Factors, rank: int) -> Factors:
    """Return the nearest update of at most this rank (Eckart & Young 1936), its scale split between both factors."""
    u, s, vh = thin_svd(factors)
    root = s[:rank].sqrt()
    return Factors(u[:, :rank] * root, root[:, None] * vh[:rank])


def orthonormalised(basis: Tensor, epsilon: float) -> Tensor:
    """Return the nearest matrix with orthonormal columns, basis (basis^T basis + epsilon I)^(-1/2), float (m, r).

    Args:
        basis: columns of length 1, float (m, r).
        epsilon: keeps directions shared by several columns finite; 0 gives the polar factor.
    """
    values, vectors = torch.linalg.eigh(basis.T @ basis)
    return basis @ (vectors / (values.clamp(min=0) + epsilon).sqrt()) @ vectors.T
