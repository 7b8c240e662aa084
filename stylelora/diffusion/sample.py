"""Sampling: pictures from prompts and seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning, predict
from stylelora.base.numbers import check_numbers
from stylelora.diffusion import noise
from stylelora.records import InputError

#: Maps the scheduler's input (B, C, H, W), the timestep and the index of the UNet call to what the UNet predicts.
Predict = Callable[[Tensor, Tensor, int], Tensor]


def initial_noise(seeds: Sequence[int | str], shape: Sequence[int]) -> Tensor:
    """Return the initial noise of each seed, float32 (len(seeds), *shape); it depends only on that seed."""
    return noise.normal([("start", seed) for seed in seeds], shape)


@torch.no_grad()
def denoise(
    unet: torch.nn.Module,
    scheduler: Any,
    start: Tensor,
    conditioning: Conditioning,
    empty: Conditioning,
    num_inference_steps: int,
    guidance_scale: float,
) -> Tensor:
    """Denoise latents with classifier-free guidance (Ho & Salimans 2022, eq. 6).

    Args:
        unet: predicts from (x_t, t, conditioning); used in eval mode and restored afterwards.
        scheduler: any deterministic diffusers scheduler; it is copied, so its state is not shared.
        start: standard normal, float (B, C, H, W).
        conditioning: conditioning of B prompts.
        empty: conditioning of the empty or negative prompt, for 1 picture or B.
        num_inference_steps: number of denoising steps.
        guidance_scale: scale; 1 means no guidance, and then the empty prompt is not evaluated.

    Returns:
        latents, float32 (B, C, H, W).
    """
    return walk(unet, scheduler, start, num_inference_steps, guided(unet, conditioning, empty, guidance_scale))


def guided(unet: torch.nn.Module, conditioning: Conditioning, empty: Conditioning, guidance_scale: float) -> Predict:
    """Return classifier-free guidance (Ho & Salimans 2022, eq. 6); its arguments are those of `denoise`."""
    both_needed = guidance_scale != 1
    if both_needed:
        conditioning = Conditioning.cat([empty.expand(len(conditioning)), conditioning])

    def predicted(x: Tensor, t: Tensor, step: int) -> Tensor:
        del step
        kind = torch.promote_types(x.dtype, torch.float32)  # sampler steps are never in half precision
        both = predict(unet, torch.cat([x] * 2 if both_needed else [x]), t, conditioning).to(kind)
        if not both_needed:
            return both
        unconditional, conditional = both.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)  # bf16 is too coarse for the difference

    return predicted


@contextmanager
def in_turn(stages: Mapping[int, Callable[[], AbstractContextManager[Predict]]]) -> Iterator[Predict]:
    """Predict in stages, such as by the base first, and then with an adapter.

    Args:
        stages: index of the UNet call with which a stage begins, of the first 0 -> what to be in while it lasts; it
            yields what predicts.
    """
    with ExitStack() as stage:
        now: list[Predict] = []

        def predicted(x: Tensor, t: Tensor, call: int) -> Tensor:
            if call in stages:
                stage.close()
                now[:] = [stage.enter_context(stages[call]())]
            return now[0](x, t, call)

        yield predicted


def remembered(predict: Predict, known: dict[int, Tensor], until: float = math.inf) -> Predict:
    """Predict each call once, where noise, prompts and network are the same each time.

    Args:
        predict: predicts what is not known.
        known: predictions by the index of the call; grows.
        until: index of the first call that is not remembered.
    """

    def predicted(x: Tensor, t: Tensor, call: int) -> Tensor:
        if call >= until:
            return predict(x, t, call)
        if call not in known:
            known[call] = predict(x, t, call)
        return known[call]

    return predicted


def first_call(start: float, num_inference_steps: int, order: int) -> int:
    """Return the index of the UNet call with which an adapter joins.

    Args:
        start: share of the steps that are made without it.
        num_inference_steps: number of denoising steps.
        order: UNet calls per step of the sampler.
    """
    return order * min(math.ceil(start * num_inference_steps - 1e-9), num_inference_steps - 1)  # the last is its own


def check_guidance(guidance_scale: float) -> None:
    """Check a guidance scale.

    Raises:
        InputError: if it is negative, infinite or NaN.
    """
    if not 0 <= guidance_scale < math.inf:
        raise InputError(f"guidance_scale is {guidance_scale}; it must be a number of at least 0, such as 7.5")


def count_calls(scheduler: Any, num_inference_steps: int) -> int:
    """Return the number of UNet calls in the given steps; some schedulers, such as PNDM or Heun, need more calls."""
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(num_inference_steps)
    return len(scheduler.timesteps)


@torch.no_grad()
def walk(
    unet: torch.nn.Module,
    scheduler: Any,
    start: Tensor,
    num_inference_steps: int,
    predict: Predict,
) -> Tensor:
    """Run the sampler from noise to latents.

    Args:
        unet: used in eval mode and restored afterwards.
        scheduler: any deterministic diffusers scheduler; it is copied, so its state is not shared.
        start: standard normal, float (B, C, H, W).
        num_inference_steps: number of denoising steps.
        predict: what is predicted at each call.

    Returns:
        latents, float32 (B, C, H, W).
    """
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(num_inference_steps, device=start.device)
    latents = start * scheduler.init_noise_sigma
    training = unet.training
    unet.eval()
    try:
        for step, t in enumerate(scheduler.timesteps):
            predicted = predict(scheduler.scale_model_input(latents, t), t, step)
            latents = scheduler.step(predicted, t, latents).prev_sample
    finally:
        unet.train(training)
    return latents


@torch.no_grad()
def decode(vae: torch.nn.Module, latents: Tensor, named: Sequence[str] | None = None, batch_size: int = 8) -> Tensor:
    """Decode scaled latents into pictures.

    Args:
        vae: the base's.
        latents: float (B, C, h, w).
        named: what each picture is of, such as its prompt and seed, for messages.
        batch_size: pictures decoded at once.

    Returns:
        pictures, uint8 (B, 3, H, W).

    Raises:
        InputError: a latent, or what it is decoded to, is not a number, which would become a black picture.
    """
    named = [f"picture {number}" for number in range(len(latents))] if named is None else named
    drawn = "the base or its LoRA is at fault: lower the weights or the guidance scale, or train at a lower rate"
    check_numbers(latents, named, "the latent", drawn)
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
    images = torch.cat([vae.decode(part).sample.float() for part in scaled.split(batch_size)])
    check_numbers(
        images, named, "the picture", "its latent is one, so the base's autoencoder is at fault: give another"
    )
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
