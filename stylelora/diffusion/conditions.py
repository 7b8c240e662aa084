"""Conditions (which adapters, with what weights, blended how) and sampling under them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from stylelora.base.conditioning import Conditioning
from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS, Blending, Prompt
from stylelora.diffusion.blends import Blends
from stylelora.diffusion.prediction_sums import summed
from stylelora.diffusion.regions import region_mask, regional_shares
from stylelora.diffusion.sample import (
    Predict,
    check_guidance,
    count_calls,
    first_call,
    guided,
    in_turn,
    remembered,
    walk,
)
from stylelora.lora.blend import added, blend
from stylelora.lora.compose import METHODS
from stylelora.lora.factors import Factors
from stylelora.lora.mix import BlendOptions, MixSpec
from stylelora.lora.names import parts
from stylelora.lora.read import Adapter, distinct
from stylelora.lora.router import routed
from stylelora.records import InputError

#: The name of a method, in weight space or while sampling.
AnyMethod = Literal[(*METHODS, *SAMPLING_METHODS)]
CONTENT = "{}"  # stands for the content in the template of a prompt


@dataclass(frozen=True)
class Condition:
    """A condition: how pictures are generated.

    Attributes:
        method: blending method: in weight space (`lora.compose`), or while sampling (`diffusion.blend_while_sampling`).
        weights: one per adapter, 0 or more; all 0: the base.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance scale.
        strength: multiplies all weights.
        trigger: whether the prompts have trigger words.
        options: options of the method.
        prompt_template: template of the prompt, in which CONTENT is replaced by the content.
    """

    method: AnyMethod
    weights: tuple[float, ...]
    num_inference_steps: int
    guidance_scale: float
    strength: float = 1.0
    trigger: bool = True
    options: BlendOptions = field(default_factory=BlendOptions)
    prompt_template: str = CONTENT

    @property
    def is_one_unet(self) -> bool:
        """Return whether the blend is in weight space, so that one UNet serves all steps."""
        return self.method in METHODS

    def mix(self, adapters: Sequence[Adapter]) -> tuple[MixSpec, list[Adapter]]:
        """Return strength and mixture of the adapters with a weight above 0.

        Raises:
            InputError: for invalid weights.
        """
        mix = MixSpec.of([adapter.name for adapter in adapters], [self.strength * weight for weight in self.weights])
        return mix, [adapter for adapter in adapters if adapter.name in mix.names]

    def starts(self, adapters: Sequence[Adapter]) -> list[float]:
        """Return the shares of the steps, rising from 0, after which adapters join."""
        return sorted({0.0, *(adapter.start for adapter in self.mix(adapters)[1])})

    def at(self, adapters: Sequence[Adapter], progress: float) -> Condition:
        """Return the condition after a share of the steps: an adapter that starts later has the weight 0 until then.

        Args:
            adapters: all adapters.
            progress: share of the steps, 0 to below 1.
        """
        begun = [adapter.start <= progress for adapter in adapters]
        weights = tuple(weight * now for weight, now in zip(self.weights, begun, strict=True))
        return self if all(begun) else replace(self, weights=weights)

    def prompts(self, adapters: Sequence[Adapter], content: str) -> list[str]:
        """Return the prompts for a content: one with all trigger words, or one for each adapter."""
        _, used = self.mix(adapters)
        content = self.prompt_template.replace(CONTENT, content)
        if not self.trigger:
            return [content]
        if used and not self.is_one_unet and (method := SAMPLING_METHODS[self.method]).own_prompts:
            rest = method.from_base or self.options.regions is not None  # the base predicts, too
            return [prompt_of([adapter], content) for adapter in used] + [content] * rest
        return [prompt_of(used, content)]


def check_condition(condition: Condition, adapters: Sequence[Adapter]) -> None:
    """Check that a condition can be sampled.

    Raises:
        InputError: for an unknown method, more adapters than it blends, invalid weights, options or template, or no
            steps.
    """
    if not (math.isfinite(condition.strength) and condition.strength >= 0):
        raise InputError(f"strength is {condition.strength}; it must be a number of at least 0, such as 1")
    mix, _ = condition.mix(adapters)
    options = condition.options
    options.check()
    check_guidance(condition.guidance_scale)
    if condition.method not in (methods := {**METHODS, **SAMPLING_METHODS}):
        raise InputError(f"no method is called {condition.method!r}; choose from {', '.join(methods)}")
    method = SAMPLING_METHODS.get(condition.method)
    if method and method.at_most is not None and len(mix.names) > method.at_most:
        raise InputError(
            f"{condition.method} blends at most {method.at_most} adapters, not {len(mix.names)}; choose composite or "
            "switch"
        )
    if CONTENT not in condition.prompt_template:
        raise InputError(f"prompt template {condition.prompt_template!r} needs {CONTENT} where the content belongs")
    if condition.num_inference_steps < 1:
        raise InputError(f"num_inference_steps is {condition.num_inference_steps}; it must be at least 1")
    regions = options.regions
    if regions is not None and mix.names and not (method and method.regions):
        raise InputError(f"{condition.method} has no regions; choose composite, or remove them")
    if regions is not None and len(regions) != len(adapters):
        raise InputError(f"{len(adapters)} adapters and {len(regions)} regions; give each adapter one region")
    for region in regions or ():
        region_mask(region, 8, 8)


def prompt_of(adapters: Sequence[Adapter], content: str) -> str:
    """Return the prompt: the adapters' trigger words that the content does not have, then the content."""
    triggers = [adapter.metadata["trigger"] for adapter in adapters if adapter.metadata.get("trigger")]
    written = {word.strip() for word in content.split(",")}  # as other programs want it
    return ", ".join([*(word for word in distinct(triggers) if word not in written), content])


def sample_condition(
    unet: nn.Module,
    scheduler: Any,
    blends: Blends,
    condition: Condition,
    start: Tensor,
    contents: Sequence[str],
    embed: Callable[[Sequence[str], Mapping[str, Factors]], Conditioning],
    negatives: Sequence[str] = ("",),
    known: dict | None = None,
) -> Tensor:
    """Sample latents under a condition; the UNet is restored afterwards.

    Methods in weight space and `k_lora` use one prompt with all trigger words, and one text encoder with all updates;
    others give each adapter its own of both. Until an adapter starts it is not there: not its update, not its word.

    Args:
        unet: the base's UNet, without adapters.
        scheduler: any deterministic diffusers scheduler.
        blends: blends of this base's adapters.
        condition: how to sample.
        start: standard normal, float (B, C, H, W).
        contents: B prompts without trigger words.
        embed: maps texts, and updates of the text encoder, to their conditioning.
        negatives: B prompts that guidance leads away from, or one for all; as empty as in training by default.
        known: what the base predicted under other conditions, of the same noise and prompts, before any adapter
            starts; grows.

    Returns:
        latents, float32 (B, C, H, W).

    Raises:
        InputError: if weights, options or adapters do not fit.
    """
    steps, negatives = condition.num_inference_steps, negatives[:1] if len({*negatives}) == 1 else negatives
    check_condition(condition, blends.adapters)
    stages = {}
    for begins in condition.starts(blends.adapters):
        now = condition.at(blends.adapters, begins)
        call = first_call(begins, steps, scheduler.order)
        stages[call] = functools.partial(_stage, unet, scheduler, blends, now, start, contents, embed, negatives, known)
    with in_turn(stages) as predict:
        return walk(unet, scheduler, start, steps, predict)


@contextmanager
def _stage(
    unet: nn.Module,
    scheduler: Any,
    blends: Blends,
    condition: Condition,
    start: Tensor,
    contents: Sequence[str],
    embed: Callable[[Sequence[str], Mapping[str, Factors]], Conditioning],
    negatives: Sequence[str],
    known: dict | None,
) -> Iterator[Predict]:
    """Be in the stage of a condition; see `sample_condition`."""
    adapters = blends.adapters
    mix, used = condition.mix(adapters)
    texts = [list(one) for one in zip(*(condition.prompts(adapters, one) for one in contents), strict=True)]

    base_empty = functools.cache(lambda: embed(negatives, {}))

    def encoded(place: int, updates: Mapping[str, Factors]) -> Prompt:
        return Prompt(embed(texts[place], updates), embed(negatives, updates) if updates else base_empty())

    if not used or condition.is_one_unet:
        of_unet, of_text = parts(blends.updates(condition))
        prompt = encoded(0, of_text)
        with added(unet, of_unet):
            predict = guided(unet, prompt.text, prompt.empty, condition.guidance_scale)
            key = condition.prompt_template, condition.guidance_scale, condition.num_inference_steps
            yield predict if used or known is None else remembered(predict, known.setdefault(key, {}))
        return
    method = SAMPLING_METHODS[condition.method]
    strength = 1.0 if method.from_base else mix.strength
    scaled = [{name: update.scaled(strength) for name, update in one.layers.items()} for one in used]
    if method.own_prompts:
        prompts = [encoded(i if condition.trigger else 0, parts(one)[1]) for i, one in enumerate(scaled)]
    else:  # one prompt for all, so one text encoder, with the sum of the updates
        of_text = [replace(one, layers=one.text) for one in used]
        prompts = [encoded(0, blend(of_text, mix.weights) if any(one.layers for one in of_text) else {})]
    given = Blending(
        weights=mix.weights,
        shares=_shares(condition, adapters, start),
        layers=[parts(one)[0] for one in scaled],
        prompts=prompts,
        base_prompt=encoded(-1, {}),
        guidance_scale=condition.guidance_scale,
        options=condition.options,
        calls=count_calls(scheduler, condition.num_inference_steps),
        order=scheduler.order,
        once=lambda make: blends.once(condition, make),
    )
    terms = method.plan(given)
    with routed(unet, given.layers) as router:
        yield summed(unet, router, terms, condition.options.batched)


def _shares(condition: Condition, adapters: Sequence[Adapter], start: Tensor) -> Sequence[float | Tensor]:
    """Return pi of each adapter in use, as a map if it has a region."""
    mix, regions = condition.mix(adapters)[0], condition.options.regions
    if regions is None:
        return mix.shares
    masks = [
        region_mask(region, *start.shape[2:]).to(start)
        for region, adapter in zip(regions, adapters, strict=True)
        if adapter.name in mix.names
    ]
    return regional_shares(mix.shares, masks)
