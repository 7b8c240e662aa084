"""One way to blend adapters, from a name and weights to latents."""

from __future__ import annotations

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
from stylelora.diffusion.sample import count_calls, denoise
from stylelora.lora.blend import Adapter, added, blend
from stylelora.lora.compose import Method, MixSpec
from stylelora.lora.router import routed
from stylelora.records import InputError

SamplingMethod = Literal["composite", "anchored", "switch", "k_lora"]


@dataclass(frozen=True)
class Arm:
    """How a picture is made.

    Attributes:
        method: of blending: in weight space (`lora.compose`), or while sampling (`diffusion.composite`).
        weights: one per adapter, 0 or more; all 0: the base.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
    """

    method: Method | SamplingMethod
    weights: tuple[float, ...]
    steps: int
    guidance: float


def check_arm(arm: Arm, adapters: Sequence[Adapter]) -> None:
    """Refuse what cannot be sampled.

    Raises:
        InputError: for bad weights, an unknown method, no step, or `k_lora` with more than two adapters.
    """
    mix = MixSpec.of([adapter.name for adapter in adapters], arm.weights)
    if arm.method not in (methods := (*get_args(Method), *get_args(SamplingMethod))):
        raise InputError(f"no method is called {arm.method!r}; choose from {', '.join(methods)}")
    if arm.method == "k_lora" and len(mix.names) > 2:
        raise InputError(f"k_lora blends two adapters, not {len(mix.names)}; choose composite or switch")
    if arm.steps < 1:
        raise InputError(f"steps is {arm.steps}; it must be at least 1")


def prompts_of(adapters: Sequence[Adapter], method: str, content: str) -> list[str]:
    """Return the prompts that an arm is given: one with all trigger words, or one for each adapter.

    Args:
        adapters: those with a weight above 0.
        method: of the arm.
        content: without trigger words.
    """
    if adapters and method in ("composite", "anchored", "switch"):
        return [prompt_of([adapter], content) for adapter in adapters] + ([content] if method == "anchored" else [])
    return [prompt_of(adapters, content)]


def prompt_of(adapters: Sequence[Adapter], content: str) -> str:
    """Return a content with the trigger words of adapters before it."""
    return ", ".join([*(adapter.metadata["trigger"] for adapter in adapters if "trigger" in adapter.metadata), content])


def sample_arm(
    unet: nn.Module,
    scheduler: Any,
    adapters: Sequence[Adapter],
    arm: Arm,
    start: Tensor,
    contents: Sequence[str],
    embed: Callable[[Sequence[str]], Tensor],
) -> Tensor:
    """Make latents; the UNet is afterwards as it was.

    A method in weight space has all trigger words in its prompt; while sampling each adapter is given its own.

    Args:
        unet: the base's, without adapters.
        scheduler: any deterministic diffusers scheduler.
        adapters: of this base.
        arm: how.
        start: standard normal, float (B, C, H, W).
        contents: B prompts without trigger words.
        embed: from texts to embeddings, float (N, T, D).

    Returns:
        latents, float32 (B, C, H, W).

    Raises:
        InputError: if weights or adapters do not fit, or `k_lora` is given other than two adapters.
    """
    check_arm(arm, adapters)
    mix = MixSpec.of([adapter.name for adapter in adapters], arm.weights)
    used = [adapter for adapter in adapters if adapter.name in mix.names]
    empty = embed([""])
    if not used or arm.method in get_args(Method):
        updates = blend(adapters, arm.weights, arm.method) if used else {}
        text = embed([prompt_of(used, content) for content in contents])
        with added(unet, updates):
            return denoise(unet, scheduler, start, text, empty, arm.steps, arm.guidance)
    texts = [embed([prompt_of([adapter], content) for content in contents]) for adapter in used]
    strength = 1.0 if arm.method == "anchored" else mix.strength
    layers = [{name: update.scaled(strength) for name, update in one.layers.items()} for one in used]
    times = None
    if arm.method == "composite" or (len(used) == 1 and arm.method != "anchored"):
        fixed = composite_terms(mix.shares, texts, empty, arm.guidance)
        terms = lambda _step: fixed  # noqa: E731
    elif arm.method == "anchored":
        fixed = anchored_terms(mix.weights, texts, embed(list(contents)), empty, arm.guidance)
        terms = lambda _step: fixed  # noqa: E731
    elif arm.method == "switch":
        order = switch_order(mix.shares, count_calls(scheduler, arm.steps))
        terms = lambda step: _guided(order[step], texts[order[step]], empty, arm.guidance)  # noqa: E731
    else:
        times = switch_times(layers[0], layers[1], mix.shares)
        text = embed([prompt_of(used, content) for content in contents])
        terms = lambda _step: _guided(0, text, empty, arm.guidance)  # noqa: E731
    with routed(unet, layers) as router:
        return denoise_blend(unet, router, scheduler, start, terms, arm.steps, times=times)


def _guided(adapter: int, text: Tensor, empty: Tensor, guidance: float) -> list[Term]:
    return [Term(adapter, text, guidance), *([Term(adapter, empty, 1 - guidance)] if guidance != 1 else [])]
