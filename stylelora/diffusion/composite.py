"""Blend adapters while sampling: the prediction is a weighted sum of predictions, each by an adapter for a text.

Classifier-free guidance, LoRA Composite, its anchored and its regional form are all such sums and differ in the terms.
LoRA Switch and K-LoRA have one adapter per step, or per layer and step. With strength s and mixture pi as in
`stylelora.lora.compose`, the adapters given to the router carry the strength s already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylelora.diffusion.sample import count_calls, walk
from stylelora.lora.factors import Factors, inner
from stylelora.lora.router import Choice, Router


@dataclass(frozen=True)
class Term:
    """One prediction of the sum.

    Attributes:
        adapter: which one; None for the base.
        text: float (B, T, D), or (1, T, D) for all pictures.
        weight: factor, or a map of factors broadcastable to (B, C, H, W).
    """

    adapter: Choice
    text: Tensor
    weight: float | Tensor


def composite_terms(
    shares: Sequence[float | Tensor],
    texts: Sequence[Tensor],
    empty_text: Tensor,
    guidance_scale: float,
    base_unconditional: bool = False,
) -> list[Term]:
    """Return the terms of weighted LoRA Composite (Zhong et al. 2024, eq. 4, which has pi_i = 1 / N).

    eps = e_u + g (e_c - e_u) with e_c = sum pi_i eps_i(text_i) and e_u = sum pi_i eps_i(empty), or eps_0(empty).

    Args:
        shares: pi of each adapter; maps (1, 1, H, W) that add up to 1 give each adapter its region.
        texts: each adapter's prompts, with its own trigger word, float (B, T, D).
        empty_text: float (1, T, D).
        guidance_scale: g; at 1 the empty text is not evaluated.
        base_unconditional: let the base alone predict for the empty text.
    """
    terms = [Term(i, text, guidance_scale * share) for i, (share, text) in enumerate(zip(shares, texts, strict=True))]
    if guidance_scale != 1 and base_unconditional:
        terms.append(Term(None, empty_text, 1 - guidance_scale))
    elif guidance_scale != 1:
        terms += [Term(i, empty_text, (1 - guidance_scale) * share) for i, share in enumerate(shares)]
    return terms


def anchored_terms(
    weights: Sequence[float | Tensor],
    texts: Sequence[Tensor],
    text: Tensor,
    empty_text: Tensor,
    guidance_scale: float,
    base_unconditional: bool = False,
) -> list[Term]:
    """Return the terms of eps_0 + sum w_i (eps_i - eps_0) (Composable Diffusion; Liu et al. 2022, eq. 11), guided.

    Args:
        weights: w of each adapter, or maps (1, 1, H, W); where they add up to 1 this is weighted Composite.
        texts: each adapter's prompts, float (B, T, D).
        text: the base's prompts, without trigger words, float (B, T, D).
        empty_text: float (1, T, D).
        guidance_scale: g.
        base_unconditional: let the base alone predict for the empty text.
    """
    terms = composite_terms(weights, texts, empty_text, guidance_scale, base_unconditional)
    rest = 1 - sum(weights)
    terms += [Term(None, text, guidance_scale * rest)]
    terms += [] if base_unconditional else [Term(None, empty_text, (1 - guidance_scale) * rest)]
    return [term for term in terms if torch.as_tensor(term.weight).abs().max() > 1e-6]


def switch_order(shares: Sequence[float], calls: int, order: int = 1) -> list[int]:
    """Return which adapter each call of the UNet uses: pi_i of the steps each, spread as evenly as can be.

    LoRA Switch (Zhong et al. 2024, section 3.2) takes turns of fixed length; here every step goes to the adapter that
    is furthest behind its share, so that after t steps each has had t pi_i, to within one. Then Switch comes close to
    Composite as the steps get more, at the cost of one adapter.

    Args:
        shares: pi of each adapter; one of 0 never runs.
        calls: of the UNet.
        order: calls per step of the sampler, such as 2 of Heun's, which predicts and corrects by one adapter.
    """
    owed = [0.0] * len(shares)
    chosen: list[int] = []
    while len(chosen) < calls:
        owed = [debt + share for debt, share in zip(owed, shares, strict=True)]
        first = max(range(len(shares)), key=lambda i: (shares[i] > 0, round(owed[i], 9), -i))
        owed[first] -= 1
        chosen += [first] * order
    return chosen[:calls]


def switch_times(
    first: Mapping[str, Factors],
    second: Mapping[str, Factors],
    shares: tuple[float, float],
    alpha: float = 1.5,
    beta: float = 0.5,
) -> dict[str, float]:
    """Return for each layer until which part of the way, 0..1, it uses the first adapter (K-LoRA; Ouyang et al. 2025).

    The paper compares sums of the K = r_1 r_2 largest entries in every layer and step, S_1 / gamma against
    S_2 (alpha tau + beta); nothing but the progress tau changes, so a layer changes sides once, at
    tau* = (pi_1 S_1 / (gamma pi_2 S_2) - beta) / alpha. Gamma is the mean ratio of the updates' absolute sums.

    Args:
        first: the adapter of the early steps, which lay the picture out.
        second: the adapter of the late steps.
        shares: pi of both.
        alpha: how fast the second gains.
        beta: what the second begins with.
    """
    scores, ratios = {}, []
    both = [layer for layer in first if layer in second and inner(second[layer], second[layer]) > 0]
    for layer in both:
        dense = first[layer].dense().abs(), second[layer].dense().abs()
        count = min(first[layer].up.shape[1] * second[layer].up.shape[1], dense[0].numel())
        scores[layer] = [float(one.flatten().topk(count).values.sum()) for one in dense]
        ratios.append(float(dense[0].sum() / dense[1].sum()))
    gamma = sum(ratios) / max(1, len(ratios))
    times = {
        layer: (shares[0] * a / (gamma * shares[1] * b) - beta) / alpha if gamma * shares[1] * b else 1.0
        for layer, (a, b) in scores.items()
    }
    times = {layer: min(1.0, max(0.0, time)) for layer, time in times.items()}
    return times | {layer: 0.0 for layer in second if layer not in first}  # what only the second has, it always does


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
        text = torch.cat([term.text.expand(len(x), -1, -1) for term in some])
        stacked = torch.cat([x.to(text.dtype)] * len(some))
        predicted = unet(stacked, t, encoder_hidden_states=text).sample.to(kind)
        total = total + sum(term.weight * one for term, one in zip(some, predicted.chunk(len(some)), strict=True))
    return total


def denoise_blend(
    unet: torch.nn.Module,
    router: Router,
    scheduler: Any,
    start: Tensor,
    terms: Callable[[int], Sequence[Term]],
    num_inference_steps: int,
    batched: bool = True,
    times: Mapping[str, float] | None = None,
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
        times: for K-LoRA, see `switch_times`; a layer takes adapter 1 for adapter 0 from its time on.

    Returns:
        latents, float32 (B, C, H, W).
    """
    calls = count_calls(scheduler, num_inference_steps)

    def predict(x: Tensor, t: Tensor, step: int) -> Tensor:
        if times is not None:
            late = {layer for layer, time in times.items() if step / calls >= time}
            router.rule = lambda layer, choice: 1 if choice == 0 and layer in late else choice
        return predict_sum(unet, router, x, t, terms(step), batched)

    return walk(unet, scheduler, start, num_inference_steps, predict)
