"""Overlap of two adapters' updates, computed from their weights alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stylelora.lora.factors import Factors, inner, nothing, thin_svd


@dataclass(frozen=True)
class Overlap:
    """Overlap of two updates of one layer.

    Attributes:
        cosine: of the updates as vectors, -1..1.
        inputs: overlap of the input directions, 0..1; for random updates about max(r_1, r_2) / n.
        outputs: overlap of the output directions, 0..1.
        norms: Frobenius norm of each update.
    """

    cosine: float
    inputs: float
    outputs: float
    norms: tuple[float, float]


def overlap(first: Factors, second: Factors) -> Overlap:
    """Compare two updates of a layer without building the dense matrices.

    Overlap is ||V_1^T V_2||_F^2 / min(r_1, r_2) of the singular vectors: 1 if the smaller of the two spans lies in the
    other, even if the updates themselves are orthogonal.
    """
    norms = inner(first, first) ** 0.5, inner(second, second) ** 0.5
    if 0 in norms:
        return Overlap(0.0, 0.0, 0.0, norms)
    (u1, v1), (u2, v2) = (_directions(update) for update in (first, second))
    smaller = min(u1.shape[1], u2.shape[1])
    return Overlap(
        cosine=inner(first, second) / (norms[0] * norms[1]),
        inputs=float((v1 @ v2.T).square().sum()) / smaller,
        outputs=float((u1.T @ u2).square().sum()) / smaller,
        norms=norms,
    )


def _directions(update: Factors) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases of the outputs (m, r) and the inputs (r, n)."""
    u, s, vh = thin_svd(update)
    kept = s > nothing(s)
    return u[:, kept], vh[kept]
