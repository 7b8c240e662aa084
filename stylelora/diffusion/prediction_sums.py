"""Sums of predictions: what classifier-free guidance and every way to blend while sampling come down to.

A prediction is by one adapter, or by the base, for one conditioning; the sum has a weight, or a map of weights, for
each. Adapters stand beside the UNet (`stylelora.lora.router`), so that one forward computes all terms of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning, predict
from stylelora.diffusion.sample import walk
from stylelora.lora.router import Choice, Router


@dataclass(frozen=True)
class Term:
    """One prediction of the sum.

    Attributes:
        adapter: which one predicts; None for the base.
        conditioning: what for; of B pictures, or of 1 for all of them.
        weight: factor, or a map of factors broadcastable to (B, C, H, W).
    """

    adapter: Choice
    conditioning: Conditioning
    weight: float | Tensor


def predict_sum(
    unet: torch.nn.Module, router: Router, x: Tensor, t: Tensor, terms: Sequence[Term], batched: bool
) -> Tensor:
    """Return the weighted sum of the terms' predictions, float32 or what x has more, (B, C, H, W).

    Args:
        unet: with the adapters beside it.
        router: from `routed`.
        x: the scheduler's input, float (B, C, H, W).
        t: timestep.
        terms: of the sum.
        batched: all in one forward; else one after the other, which needs less memory and gives the same.
    """
    kind = torch.promote_types(x.dtype, torch.float32)  # predictions are subtracted: no bf16
    total = torch.zeros_like(x, dtype=kind)
    for some in [terms] if batched else [[term] for term in terms]:
        router.parts = [term.adapter for term in some]
        conditioning = Conditioning.cat([term.conditioning.expand(len(x)) for term in some])
        predictions = predict(unet, torch.cat([x] * len(some)), t, conditioning).to(kind)
        total = total + sum(term.weight * one for term, one in zip(some, predictions.chunk(len(some)), strict=True))
    return total


def denoise_blend(
    unet: torch.nn.Module,
    router: Router,
    scheduler: Any,
    start: Tensor,
    terms: Callable[[int], Sequence[Term]],
    num_inference_steps: int,
    batched: bool = True,
) -> Tensor:
    """Walk from noise to latents by sums of predictions.

    Args:
        unet: with the adapters beside it.
        router: from `routed`.
        scheduler: any deterministic diffusers scheduler.
        start: standard normal, float (B, C, H, W).
        terms: from the number of a call of the UNet to its terms.
        num_inference_steps: number of denoising steps.
        batched: see `predict_sum`.

    Returns:
        latents, float32 (B, C, H, W).
    """

    def predicted(x: Tensor, t: Tensor, call: int) -> Tensor:
        return predict_sum(unet, router, x, t, terms(call), batched)

    return walk(unet, scheduler, start, num_inference_steps, predicted)
