"""What a training minimises: which noise and timesteps are drawn, and how each picture's error is weighted.

The defaults are the plain loss (Ho et al. 2020). Held-out losses never depend on these options, so that runs compare.
Shapes: B pictures, C latent channels, H and W of the latent; SNR = abar / (1 - abar).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stylelora.base.conditioning import Conditioning
from stylelora.base.zero_terminal_snr import has_zero_terminal_snr, with_zero_terminal_snr
from stylelora.diffusion import noise
from stylelora.diffusion.loss import mean_inside, prediction_errors
from stylelora.records import InputError

MOST_SNR = 1000.0  # the first timesteps have almost no noise; debiasing would all but ignore them


@dataclass(frozen=True)
class Objective:
    """The training loss and what it draws.

    Args:
        loss: mse, or huber, which forgives outliers: 2 c (sqrt(error^2 + c^2) - c) of each number (Song & Dhariwal
            2024, as in kohya).
        huber_c: c of the Huber loss, above 0; errors far below it count as in mse.
        min_snr_gamma: limits the weight of almost noiseless timesteps by min(SNR, gamma) / SNR, or / (SNR + 1) for
            v-prediction (Hang et al. 2023, eq. 6); 5 is usual; null: off.
        debiased_estimation: weight by 1 / sqrt(SNR), or 1 / (SNR + 1) for v-prediction (Yu et al. 2024).
        noise_offset: adds a shift, common to all pixels of a channel, to the noise, so that pictures can become very
            dark or bright (Guttenberg 2023); 0.05 to 0.1 is usual; 0: off.
        pyramid_iterations: adds noise of this many scales, the first of them the latent's own (Whitaker 2023, counted
            as in kohya), 2 to 10; 6 is usual; 0: off.
        pyramid_discount: factor from each scale to the next coarser, 0 to 1.
        input_perturbation: adds this share of further noise to the UNet's input, not to its target (Ning et al. 2023,
            alg. 1); 0.1 is usual; 0: off.
        timesteps: how timesteps are drawn: uniform; logit_normal, mostly in the middle (Esser et al. 2024);
            style, mostly of little noise, where texture is drawn; content, mostly of much noise, where layout is.
        timestep_range: lowest and highest timestep as shares of all, such as [0, 0.7] to leave the layout to the base.
        zero_terminal_snr: changes the noise schedule so that the last timestep is pure noise (Lin et al. 2023, alg. 1),
            for very dark and very bright pictures; samples use it, too, and whoever loads the LoRA has to; needs a base
            that predicts v.
    """

    loss: Literal["mse", "huber"] = "mse"
    huber_c: float = 0.1
    min_snr_gamma: float | None = None
    debiased_estimation: bool = False
    noise_offset: float = 0.0
    pyramid_iterations: int = 0
    pyramid_discount: float = 0.3
    input_perturbation: float = 0.0
    timesteps: Literal["uniform", "logit_normal", "style", "content"] = "uniform"
    timestep_range: tuple[float, float] = (0.0, 1.0)
    zero_terminal_snr: bool = False

    def check(self) -> None:
        """Check that options are within range and do not contradict one another.

        Raises:
            InputError: if not.
        """
        numbers = {name: getattr(self, name) for name in ("noise_offset", "input_perturbation", "pyramid_iterations")}
        if bad := [name for name, value in numbers.items() if not (math.isfinite(value) and value >= 0)]:
            raise InputError(f"objective.{bad[0]} is {numbers[bad[0]]}; it must be a number of at least 0")
        if self.pyramid_iterations == 1 or self.pyramid_iterations > 10 or not 0 < self.pyramid_discount < 1:
            raise InputError(
                f"objective.pyramid_iterations is {self.pyramid_iterations} and pyramid_discount "
                f"{self.pyramid_discount}; give 2 to 10 iterations, and a discount between 0 and 1, or 0 iterations"
            )
        if not (math.isfinite(self.huber_c) and self.huber_c > 0):
            raise InputError(f"objective.huber_c is {self.huber_c}; it must be a number above 0, such as 0.1")
        if self.min_snr_gamma is not None and not (math.isfinite(self.min_snr_gamma) and self.min_snr_gamma > 0):
            raise InputError(
                f"objective.min_snr_gamma is {self.min_snr_gamma}; give a number above 0, such as 5, or null"
            )
        if self.min_snr_gamma is not None and self.debiased_estimation:
            raise InputError("objective.min_snr_gamma and debiased_estimation both weight by the noise; choose one")
        if self.noise_offset and self.pyramid_iterations:
            raise InputError("objective.noise_offset and pyramid_iterations both add coarse noise; choose one")
        for option, needed, off in (
            ("huber_c", "loss huber", self.loss == "huber"),
            ("pyramid_discount", "pyramid_iterations", self.pyramid_iterations),
        ):
            if not off and getattr(self, option) != getattr(type(self), option):
                raise InputError(f"objective.{option} has no effect without objective.{needed}; give both or neither")
        low, high = self.timestep_range
        if not 0 <= low < high <= 1:
            raise InputError(f"objective.timestep_range is {[low, high]}; give two rising shares, such as [0, 0.7]")

    def schedule(self, scheduler: Any) -> Any:
        """Return the scheduler to train and sample with, the base's or one with zero terminal SNR.

        Args:
            scheduler: the base's own.

        Raises:
            InputError: if the last timestep is pure noise, and the base predicts the noise.
        """
        scheduler = with_zero_terminal_snr(scheduler) if self.zero_terminal_snr else scheduler
        if has_zero_terminal_snr(scheduler) and scheduler.config.prediction_type == "epsilon":
            raise InputError(
                "zero_terminal_snr needs a base that predicts v, and this one predicts noise, which says nothing about "
                "a picture that is all noise; turn it off or take a base with v_prediction"
            )
        return scheduler

    def draw_timesteps(self, keys: Sequence[tuple], count: int) -> Tensor:
        """Draw one timestep per key, int64 (B,), in 0..count-1."""
        if (self.timesteps, *self.timestep_range) == ("uniform", 0.0, 1.0):
            return noise.timesteps([("timestep", *key) for key in keys], count)
        share = noise.uniform([("timestep", *key) for key in keys])
        if self.timesteps == "logit_normal":
            share = noise.normal([("timestep", *key) for key in keys], (1,))[:, 0].sigmoid()
        elif self.timesteps == "style":
            share = share**3
        elif self.timesteps == "content":
            share = 1 - share**3
        low, high = (round(bound * count) for bound in self.timestep_range)
        return (low + share * max(1, high - low)).long().clamp(low, max(low, high - 1))

    def draw_noise(self, keys: Sequence[tuple], shape: Sequence[int]) -> Tensor:
        """Draw noise per key, float32 (B, C, H, W)."""
        draw = noise.normal([("noise", *key) for key in keys], shape)
        if self.noise_offset:
            draw = draw + self.noise_offset * noise.normal([("noise_offset", *key) for key in keys], (shape[0], 1, 1))
        if self.pyramid_iterations:
            draw = noise.pyramid(draw, keys, self.pyramid_iterations, self.pyramid_discount)
        return draw

    def losses(
        self,
        unet: torch.nn.Module,
        scheduler: Any,
        latents: Tensor,
        keys: Sequence[tuple],
        given: Conditioning,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the weighted loss of each picture, float32 (B,).

        Args:
            unet: predicts from (x_t, t, conditioning).
            scheduler: diffusers scheduler, of `schedule`; gives `alphas_cumprod` and `config`.
            latents: float (B, C, H, W).
            keys: key of each picture's draws.
            given: conditioning of B pictures.
            mask: where errors count, as in `mean_inside`.
        """
        draw = self.draw_noise(keys, latents.shape[1:]).to(latents.device)
        timesteps = self.draw_timesteps(keys, scheduler.config.num_train_timesteps).to(latents.device)
        seen = None
        if self.input_perturbation:
            more = noise.normal([("perturbation", *key) for key in keys], latents.shape[1:]).to(latents.device)
            seen = draw + self.input_perturbation * more
        # before the prediction: what is copied to a GPU afterwards waits until that is there
        weights = self.weights(timesteps, scheduler.alphas_cumprod, scheduler.config.prediction_type)
        error = prediction_errors(unet, scheduler, latents, draw, timesteps, given, seen)
        if self.loss == "huber":
            error = 2 * self.huber_c * ((error.square() + self.huber_c**2).sqrt() - self.huber_c)
        else:
            error = error.square()
        return mean_inside(error, mask) * weights

    def weights(self, timesteps: Tensor, alphas_cumprod: Tensor, kind: str) -> Tensor | float:
        """Return the weight of each picture's loss, float (B,); 1 if none is asked for.

        Args:
            timesteps: int (B,).
            alphas_cumprod: float (steps,), abar of the scheduler.
            kind: `epsilon` or `v_prediction`.
        """
        if self.min_snr_gamma is None and not self.debiased_estimation:
            return 1.0
        alpha = alphas_cumprod.to(timesteps.device)[timesteps]
        snr = alpha / (1 - alpha)
        if self.min_snr_gamma is not None:
            return snr.clamp(max=self.min_snr_gamma) / (snr + 1 if kind == "v_prediction" else snr)
        snr = snr.clamp(max=MOST_SNR)
        return 1 / (snr + 1) if kind == "v_prediction" else snr.rsqrt()
