"""Weighted sums of noise predictions: the common form of classifier-free guidance and of blending while sampling.

Each prediction is by one adapter, or by the base, for one conditioning, and has a weight or a map of weights. Adapters
stay separate from the UNet's weights (`stylelora.lora.router`), so that one forward pass computes all terms of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning, predict
from stylelora.diffusion.sample import Predict
from stylelora.lora.router import Choice, Router


@dataclass(frozen=True)
class Term:
    """One prediction of the sum.

    Attributes:
        adapter: index of the adapter that predicts; None for the base.
        conditioning: conditioning of B pictures, or of 1 for all of them.
        weight: factor, or a map of factors broadcastable to (B, C, H, W).
    """

    adapter: Choice
    conditioning: Conditioning
    weight: float | Tensor


def predict_sum(
    unet: torch.nn.Module, router: Router, x: Tensor, t: Tensor, terms: Sequence[Term], batched: bool
) -> Tensor:
    """Return the weighted sum of the terms' predictions, (B, C, H, W), in float32 or x's dtype if that is wider.

    Args:
        unet: the UNet inside `routed`.
        router: from `routed`.
        x: the scheduler's input, float (B, C, H, W).
        t: timestep.
        terms: terms of the sum.
        batched: whether all are computed in one forward pass; one by one needs less memory and gives the same result.
    """
    kind = torch.promote_types(x.dtype, torch.float32)  # bf16 is too coarse for differences of predictions
    total = torch.zeros_like(x, dtype=kind)
    for some in [terms] if batched else [[term] for term in terms]:
        router.parts = [term.adapter for term in some]
        conditioning = Conditioning.cat([term.conditioning.expand(len(x)) for term in some])
        predictions = predict(unet, torch.cat([x] * len(some)), t, conditioning).to(kind)
        total = total + sum(term.weight * one for term, one in zip(some, predictions.chunk(len(some)), strict=True))
    return total


def summed(
    unet: torch.nn.Module, router: Router, terms: Callable[[int], Sequence[Term]], batched: bool = True
) -> Predict:
    """Return what predicts weighted sums.

    Args:
        unet: the UNet inside `routed`.
        router: from `routed`.
        terms: maps the index of a UNet call to its terms.
        batched: see `predict_sum`.
    """
    return lambda x, t, call: predict_sum(unet, router, x, t, terms(call), batched)
