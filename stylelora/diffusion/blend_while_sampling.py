"""Blend adapters while sampling, by weighted sums of noise predictions, each by one adapter for one prompt.

Classifier-free guidance, LoRA Composite, and its anchored and regional forms are all such sums with different terms.
LoRA Switch and K-LoRA use one adapter per step, or per layer and step. Strength s and mixture pi are those of
`stylelora.lora.mix`.

To add a method, write one function here with the decorator `@method`; it is then available everywhere by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning
from stylelora.diffusion.prediction_sums import Term
from stylelora.lora.factors import Factors, inner
from stylelora.lora.mix import BlendOptions
from stylelora.lora.router import Choice

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """A prompt and the empty or negative one, encoded by one text encoder: the base's, or an adapter's.

    Attributes:
        text: conditioning of the prompt, for B pictures.
        empty: conditioning of the empty or negative prompt, for 1 picture or B.
    """

    text: Conditioning
    empty: Conditioning


@dataclass(frozen=True)
class Blending:
    """Inputs of a method, for B pictures and the adapters with a weight above 0.

    Attributes:
        weights: w of each adapter.
        shares: pi of each adapter; with regions, maps float (1, 1, H, W); the remainder to 1 is the base's.
        layers: each adapter's updates of the UNet, multiplied by s; not multiplied for a method `from_base`.
        prompts: of each adapter, with its own trigger word and text encoder; or one for all, with all trigger words.
        base_prompt: of the base, without trigger words where a method is `from_base` or has regions.
        guidance_scale: g of classifier-free guidance.
        options: options of the methods.
        calls: number of UNet calls.
        order: UNet calls per step of the sampler, such as 2 for Heun's.
        once: computes a value at the first batch, and returns it for all later batches of the same blend.
    """

    weights: Sequence[float]
    shares: Sequence[float | Tensor]
    layers: Sequence[Mapping[str, Factors]]
    prompts: Sequence[Prompt]
    base_prompt: Prompt
    guidance_scale: float
    options: BlendOptions
    calls: int
    order: int
    once: Callable[[Callable[[], T]], T]

    def guided(self, adapter: Choice, prompt: Prompt) -> list[Term]:
        """Return the terms of classifier-free guidance with one adapter."""
        terms = [Term(adapter, prompt.text, self.guidance_scale)]
        return terms + ([Term(adapter, prompt.empty, 1 - self.guidance_scale)] if self.guidance_scale != 1 else [])


#: From the number of a call of the UNet to the terms of its sum.
Plan = Callable[[int], Sequence[Term]]


@dataclass(frozen=True)
class SamplingMethod:
    """A method with its properties; see `method`."""

    plan: Callable[[Blending], Plan]
    own_prompts: bool
    from_base: bool
    regions: bool
    at_most: int | None


#: Every method by its name.
SAMPLING_METHODS: dict[str, SamplingMethod] = {}


def method(
    name: str, own_prompts: bool, from_base: bool = False, regions: bool = False, at_most: int | None = None
) -> Callable[[Callable[[Blending], Plan]], Callable[[Blending], Plan]]:
    """Register a function as a blending method.

    Args:
        name: name of the method.
        own_prompts: whether each adapter predicts for a prompt with its own trigger word only.
        from_base: whether the base predicts, too, so that the weights apply to the sum, not to the adapters.
        regions: whether each adapter can be limited to a region of the picture.
        at_most: maximum number of adapters.

    Returns:
        decorator of a function from a Blending to the terms of each call of the UNet.
    """

    def add(plan: Callable[[Blending], Plan]) -> Callable[[Blending], Plan]:
        SAMPLING_METHODS[name] = SamplingMethod(plan, own_prompts, from_base, regions, at_most)
        return plan

    return add


@method("composite", own_prompts=True, regions=True)
def composite(given: Blending) -> Plan:
    """Average the adapters' predictions in each step: LoRA Composite (Zhong et al. 2024, eq. 4); see `composite_terms`.

    With regions, each adapter acts in its own, and the base alone acts where there is none; see `anchored_terms`.
    """
    guided = (given.base_prompt, given.guidance_scale, given.options.base_unconditional)
    made = composite_terms if given.options.regions is None else anchored_terms
    terms = made(given.shares, given.prompts, *guided)
    return lambda _call: terms


@method("anchored", own_prompts=True, from_base=True)
def anchored(given: Blending) -> Plan:
    """Add each adapter's change to the base's prediction: Liu et al. 2022, eq. 11; see `anchored_terms`."""
    guided = (given.base_prompt, given.guidance_scale, given.options.base_unconditional)
    terms = anchored_terms(given.weights, given.prompts, *guided)
    return lambda _call: terms


@method("switch", own_prompts=True)
def switch(given: Blending) -> Plan:
    """Use one adapter per step, in turn: LoRA Switch (Zhong et al. 2024, section 3.2); see `switch_order`."""
    order = switch_order(given.shares, given.calls, given.order)
    return lambda call: given.guided(order[call], given.prompts[order[call]])


@method("k_lora", own_prompts=False, at_most=2)
def k_lora(given: Blending) -> Plan:
    """Use the stronger adapter of each layer and step: K-LoRA (Ouyang et al. 2025); see `switch_times`."""
    if len(given.layers) == 1:
        return lambda _call: given.guided(0, given.prompts[0])
    times = given.once(lambda: switch_times(*given.layers, given.shares))
    return lambda call: given.guided(second_from(times, call / given.calls), given.prompts[0])


def composite_terms(
    shares: Sequence[float | Tensor],
    prompts: Sequence[Prompt],
    base_prompt: Prompt,
    guidance_scale: float,
    base_unconditional: bool = False,
) -> list[Term]:
    """Return the terms of weighted LoRA Composite (Zhong et al. 2024, eq. 4, which has pi_i = 1 / N).

    eps = e_u + g (e_c - e_u) with e_c = sum pi_i eps_i(prompt_i) and e_u = sum pi_i eps_i(empty), or eps_0(empty).

    Args:
        shares: pi of each adapter; maps (1, 1, H, W) that add up to 1 give each adapter its region.
        prompts: of each adapter, with its own trigger word.
        base_prompt: of the base; only its empty prompt counts.
        guidance_scale: g; at 1 the empty prompt is not evaluated.
        base_unconditional: let the base alone predict for the empty prompt.
    """
    terms = [
        Term(i, prompt.text, guidance_scale * share)
        for i, (share, prompt) in enumerate(zip(shares, prompts, strict=True))
    ]
    if guidance_scale != 1 and base_unconditional:
        terms.append(Term(None, base_prompt.empty, 1 - guidance_scale))
    elif guidance_scale != 1:
        pairs = zip(shares, prompts, strict=True)
        terms += [Term(i, prompt.empty, (1 - guidance_scale) * share) for i, (share, prompt) in enumerate(pairs)]
    return terms


def anchored_terms(
    weights: Sequence[float | Tensor],
    prompts: Sequence[Prompt],
    base_prompt: Prompt,
    guidance_scale: float,
    base_unconditional: bool = False,
) -> list[Term]:
    """Return the terms of eps_0 + sum w_i (eps_i - eps_0) (Composable Diffusion; Liu et al. 2022, eq. 11), guided.

    Args:
        weights: w of each adapter, or maps (1, 1, H, W); where they add up to 1 this is weighted Composite.
        prompts: of each adapter, with its own trigger word.
        base_prompt: of the base, without trigger words.
        guidance_scale: g.
        base_unconditional: let the base alone predict for the empty prompt.
    """
    terms = composite_terms(weights, prompts, base_prompt, guidance_scale, base_unconditional)
    rest = 1 - sum(weights)
    terms += [Term(None, base_prompt.text, guidance_scale * rest)]
    terms += [] if base_unconditional else [Term(None, base_prompt.empty, (1 - guidance_scale) * rest)]
    return [term for term in terms if torch.as_tensor(term.weight).abs().max() > 1e-6]


def switch_order(shares: Sequence[float], calls: int, order: int = 1) -> list[int]:
    """Return the adapter of each UNet call: adapter i gets a share pi_i of the steps, spread as evenly as possible.

    LoRA Switch (Zhong et al. 2024, section 3.2) takes turns of fixed length. Here every step goes to the adapter that
    is furthest behind its share, so that after t steps each has had t pi_i, to within one. With more steps, Switch then
    approaches Composite, at the cost of one adapter.

    Args:
        shares: pi of each adapter; an adapter of share 0 never runs.
        calls: number of UNet calls.
        order: UNet calls per step of the sampler, such as 2 for Heun's, which predicts and corrects with one adapter.
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
    """Return each layer's progress, 0..1, at which it switches to the second adapter (K-LoRA; Ouyang et al. 2025).

    The paper compares sums of the K = r_1 r_2 largest entries in every layer and step, S_1 / gamma against
    S_2 (alpha tau + beta). Only the progress tau changes, so a layer switches once, at
    tau* = (pi_1 S_1 / (gamma pi_2 S_2) - beta) / alpha. Gamma is the mean ratio of the updates' absolute sums.

    Args:
        first: the adapter of the early steps, which determine the layout.
        second: the adapter of the late steps.
        shares: pi of both.
        alpha: growth of the second adapter's factor with progress.
        beta: the second adapter's factor at progress 0.
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
    return times | {layer: 0.0 for layer in second if layer not in first}  # layers of the second alone always use it


def second_from(times: Mapping[str, float], progress: float) -> Callable[[str], int]:
    """Return the rule by which a layer uses adapter 0 before its switch time, and adapter 1 from then on.

    Args:
        times: from `switch_times`.
        progress: completed part of the sampling, 0..1.
    """
    late = {layer for layer, time in times.items() if progress >= time}
    return lambda layer: int(layer in late)
