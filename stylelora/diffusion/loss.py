"""The denoising loss, for training and evaluation.

Shapes: B pictures, C latent channels, H and W of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning, predict
from stylelora.diffusion.noise import normal

#: Midpoints of eight equal parts of 1000 timesteps: their mean loss is within 0.4 % of the mean over all.
BANK_TIMESTEPS = (62, 187, 312, 437, 562, 687, 812, 937)


def bank_stages(starts: Sequence[float]) -> list[list[int]]:
    """Divide BANK_TIMESTEPS among the stages of a sampler: the places of those that it passes in each.

    Args:
        starts: shares of the steps after which stages begin, rising from 0.
    """
    begun = torch.stack([1 - torch.tensor(BANK_TIMESTEPS) / 1000 >= start for start in starts]).sum(0)
    return [(begun == number).nonzero().flatten().tolist() for number in range(1, len(starts) + 1)]


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Diffuse latents to their timesteps: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, eq. 4).

    Args:
        latents: float (B, C, H, W), scaled by the VAE's `scaling_factor`.
        noise: standard normal, like `latents`.
        timesteps: int (B,), 0..len(alphas_cumprod)-1.
        alphas_cumprod: float (steps,), abar of the scheduler.
    """
    alpha = alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1)
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def target_of(kind: str, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the UNet's training target.

    Args:
        kind: `epsilon` (the noise) or `v_prediction` (sqrt(abar) eps - sqrt(1 - abar) x_0; Salimans & Ho 2022).
        latents: as in `add_noise`.
        noise: as in `add_noise`.
        timesteps: as in `add_noise`.
        alphas_cumprod: as in `add_noise`.

    Raises:
        ValueError: for any other kind.
    """
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        alpha = alphas_cumprod.to(latents.device)[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    raise ValueError(f"prediction type {kind!r} is not supported; it must be epsilon or v_prediction")


def prediction_errors(
    unet: torch.nn.Module,
    scheduler: Any,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    input_noise: Tensor | None = None,
) -> Tensor:
    """Return what the UNet predicts less its target, float32 (B, C, H, W).

    Args:
        unet: predicts from (x_t, t, conditioning).
        scheduler: diffusers scheduler; gives `alphas_cumprod` and `config.prediction_type`.
        latents: float (B, C, H, W).
        noise: standard normal, like `latents`.
        timesteps: int (B,).
        conditioning: of B pictures.
        input_noise: noise in the UNet's input; None: that of the target.
    """
    noisy = add_noise(latents, noise if input_noise is None else input_noise, timesteps, scheduler.alphas_cumprod)
    target = target_of(scheduler.config.prediction_type, latents, noise, timesteps, scheduler.alphas_cumprod)
    return predict(unet, noisy, timesteps, conditioning).float() - target.float()


def mean_inside(error: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean of each picture, or of its part inside the mask, float32 (B,).

    The mean is over the mask's own area, so that each picture counts the same, however small what it shows; kohya
    divides by the whole area.

    Args:
        error: float (B, C, H, W).
        mask: 0..1, float (B, 1, H, W), nowhere all 0; None: all counts.
    """
    if mask is None:
        return error.mean((1, 2, 3))
    return (error * mask).mean((1, 2, 3)) / mask.mean((1, 2, 3))


def denoising_losses(
    unet: torch.nn.Module,
    scheduler: Any,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the mean squared error of each picture, float32 (B,) (Ho et al. 2020, eq. 14).

    Its arguments are those of `prediction_errors` and `mean_inside`.
    """
    return mean_inside(prediction_errors(unet, scheduler, latents, noise, timesteps, conditioning).square(), mask)


def bank_losses(
    unet: torch.nn.Module,
    scheduler: Any,
    latents: Tensor,
    names: Sequence[str],
    conditioning: Conditioning,
    mask: Tensor | None = None,
    places: Sequence[int] = range(len(BANK_TIMESTEPS)),
) -> Tensor:
    """Return each picture's loss at BANK_TIMESTEPS, float32 (B, 8), with noise that depends only on its name.

    So the losses of two networks, or of two epochs, differ only because of the network.

    Args:
        unet: predicts from (x_t, t, conditioning).
        scheduler: as for `denoising_losses`.
        latents: float (B, C, H, W), the posterior's mean, scaled by the VAE's `scaling_factor`.
        names: names of the pictures, such as the hash of their content.
        conditioning: of B pictures.
        mask: where errors count, as in `mean_inside`.
        places: which of BANK_TIMESTEPS are asked for; the losses are as many.
    """
    losses = [latents.new_empty(len(latents), 0, dtype=torch.float32)]
    for timestep in (BANK_TIMESTEPS[place] for place in places):
        draw = normal([("bank", name, timestep) for name in names], latents.shape[1:]).to(latents.device)
        timesteps = torch.full((len(latents),), timestep, device=latents.device)
        losses.append(denoising_losses(unet, scheduler, latents, draw, timesteps, conditioning, mask)[:, None])
    return torch.cat(losses, 1)
