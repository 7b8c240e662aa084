"""One way to blend adapters, from a name and weights to latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from stylelora.diffusion.composite import (
    Term,
    anchored_terms,
    composite_terms,
    denoise_blend,
    switch_order,
    switch_times,
)
from stylelora.diffusion.regions import region_mask, regional_shares
from stylelora.diffusion.sample import count_calls, denoise
from stylelora.lora.blend import added, blend
from stylelora.lora.compose import Method, MixSpec, check_shares
from stylelora.lora.factors import Factors
from stylelora.lora.read import Adapter, distinct
from stylelora.lora.router import routed
from stylelora.records import InputError

SamplingMethod = Literal["composite", "anchored", "switch", "k_lora"]
CONTENT = "{}"  # stands for the content in the words of a prompt
OWN_PROMPTS = ("composite", "anchored", "switch")  # each adapter predicts for a prompt with its own trigger word


@dataclass(frozen=True)
class BlendOptions:
    """How the methods go about it, beside the weights.

    Args:
        density: share of entries that ties, dare and knots_ties keep; above 0, at most 1.
        protection: of np_lora, 0..1.
        seed: of dare's draws.
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


@dataclass(frozen=True)
class Condition:
    """How a picture is made.

    Attributes:
        method: of blending: in weight space (`lora.compose`), or while sampling (`diffusion.composite`).
        weights: one per adapter, 0 or more; all 0: the base.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance scale.
        strength: multiplies all weights.
        trigger: whether the prompts have trigger words.
        options: of the method.
        prompt_template: prompt of a content, which stands in place of CONTENT.
    """

    method: Method | SamplingMethod
    weights: tuple[float, ...]
    num_inference_steps: int
    guidance_scale: float
    strength: float = 1.0
    trigger: bool = True
    options: BlendOptions = BlendOptions()
    prompt_template: str = CONTENT

    def mix(self, adapters: Sequence[Adapter]) -> tuple[MixSpec, list[Adapter]]:
        """Return strength and mixture, and the adapters that have a weight above 0.

        Raises:
            InputError: for bad weights.
        """
        mix = MixSpec.of([adapter.name for adapter in adapters], [self.strength * weight for weight in self.weights])
        return mix, [adapter for adapter in adapters if adapter.name in mix.names]

    def updates(self, adapters: Sequence[Adapter]) -> dict[str, Factors]:
        """Return the blended update of each layer, of a method in weight space; none for the base.

        Raises:
            InputError: as `blend`.
        """
        mix, used = self.mix(adapters)
        options = (self.options.density, self.options.protection, self.options.seed)
        return blend(used, mix.weights, self.method, *options) if used else {}

    def prompts(self, adapters: Sequence[Adapter], content: str) -> list[str]:
        """Return the prompts that are given for a content: one with all trigger words, or one for each adapter."""
        _, used = self.mix(adapters)
        content = self.prompt_template.replace(CONTENT, content)
        if not self.trigger:
            return [content]
        if used and self.method in OWN_PROMPTS:
            rest = self.method == "anchored" or self.options.regions is not None  # the base predicts, too
            return [prompt_of([adapter], content) for adapter in used] + [content] * rest
        return [prompt_of(used, content)]


def check_condition(condition: Condition, adapters: Sequence[Adapter]) -> None:
    """Refuse what cannot be sampled.

    Raises:
        InputError: for bad weights, options or words, an unknown method, no step, or `k_lora` with over two adapters.
    """
    if not (math.isfinite(condition.strength) and condition.strength >= 0):
        raise InputError(f"strength is {condition.strength}; it must be a number of at least 0, such as 1")
    mix, _ = condition.mix(adapters)
    options = condition.options
    check_shares(options.density, options.protection)
    if not math.isfinite(condition.guidance_scale):
        raise InputError(f"guidance_scale is {condition.guidance_scale}; it must be a number, such as 7.5")
    if condition.method not in (methods := (*get_args(Method), *get_args(SamplingMethod))):
        raise InputError(f"no method is called {condition.method!r}; choose from {', '.join(methods)}")
    if condition.method == "k_lora" and len(mix.names) > 2:
        raise InputError(f"k_lora blends two adapters, not {len(mix.names)}; choose composite or switch")
    if CONTENT not in condition.prompt_template or ": " in condition.prompt_template:
        raise InputError(
            f"prompt template {condition.prompt_template!r} needs {CONTENT} where the content belongs, and no colon"
        )
    if condition.num_inference_steps < 1:
        raise InputError(f"num_inference_steps is {condition.num_inference_steps}; it must be at least 1")
    regions = options.regions
    if regions is not None and mix.names and condition.method != "composite":
        raise InputError(f"{condition.method} has no regions; choose composite, or leave them out")
    if regions is not None and len(regions) != len(adapters):
        raise InputError(f"{len(adapters)} adapters and {len(regions)} regions; give each adapter one region")
    for region in regions or ():
        region_mask(region, 8, 8)


def prompt_of(adapters: Sequence[Adapter], content: str) -> str:
    """Return a content with the trigger words of adapters before it."""
    triggers = [adapter.metadata["trigger"] for adapter in adapters if "trigger" in adapter.metadata]
    return ", ".join([*distinct(triggers), content])


def sample_condition(
    unet: nn.Module,
    scheduler: Any,
    adapters: Sequence[Adapter],
    condition: Condition,
    start: Tensor,
    contents: Sequence[str],
    embed: Callable[[Sequence[str]], Tensor],
) -> Tensor:
    """Make latents; the UNet is afterwards as it was.

    Methods in weight space and `k_lora` have all trigger words in one prompt; by others each adapter is given its own.

    Args:
        unet: the base's, without adapters.
        scheduler: any deterministic diffusers scheduler.
        adapters: of this base.
        condition: how.
        start: standard normal, float (B, C, H, W).
        contents: B prompts without trigger words.
        embed: from texts to embeddings, float (N, T, D).

    Returns:
        latents, float32 (B, C, H, W).

    Raises:
        InputError: if weights, options or adapters do not fit.
    """
    check_condition(condition, adapters)
    mix, used = condition.mix(adapters)
    texts = [
        embed(list(prompts)) for prompts in zip(*(condition.prompts(adapters, one) for one in contents), strict=True)
    ]
    empty, options = embed([""]), condition.options
    if not used or condition.method in get_args(Method):
        with added(unet, condition.updates(adapters)):
            return denoise(
                unet, scheduler, start, texts[0], empty, condition.num_inference_steps, condition.guidance_scale
            )
    if not condition.trigger and condition.method in OWN_PROMPTS:
        texts *= len(used) + 1
    strength = 1.0 if condition.method == "anchored" else mix.strength
    layers = [{name: update.scaled(strength) for name, update in one.layers.items()} for one in used]
    times = None
    if condition.method in ("composite", "anchored"):
        fixed = _fixed_terms(condition, adapters, texts, empty, start)
        terms = lambda _call: fixed  # noqa: E731
    elif condition.method == "switch" or len(used) == 1:
        order = switch_order(mix.shares, count_calls(scheduler, condition.num_inference_steps), scheduler.order)
        terms = lambda call: _guided(order[call], texts[order[call]], empty, condition.guidance_scale)  # noqa: E731
    else:
        times = switch_times(layers[0], layers[1], mix.shares)
        terms = lambda _call: _guided(0, texts[0], empty, condition.guidance_scale)  # noqa: E731
    with routed(unet, layers) as router:
        return denoise_blend(
            unet, router, scheduler, start, terms, condition.num_inference_steps, options.batched, times
        )


def _guided(adapter: int, text: Tensor, empty: Tensor, guidance_scale: float) -> list[Term]:
    return [
        Term(adapter, text, guidance_scale),
        *([Term(adapter, empty, 1 - guidance_scale)] if guidance_scale != 1 else []),
    ]


def _fixed_terms(
    condition: Condition, adapters: Sequence[Adapter], texts: Sequence[Tensor], empty: Tensor, start: Tensor
) -> list[Term]:
    """Return the terms of Composite, of its regional form, where the base draws what no region covers, or anchored."""
    (mix, used), options = condition.mix(adapters), condition.options
    guided = (empty, condition.guidance_scale, options.base_unconditional)
    if condition.method == "anchored":
        return anchored_terms(mix.weights, texts[: len(used)], texts[len(used)], *guided)
    if options.regions is None:
        return composite_terms(mix.shares, texts[: len(used)], *guided)
    masks = [
        region_mask(region, *start.shape[2:]).to(start)
        for region, adapter in zip(options.regions, adapters, strict=True)
        if adapter.name in mix.names
    ]
    return anchored_terms(regional_shares(mix.shares, masks), texts[: len(used)], texts[len(used)], *guided)
