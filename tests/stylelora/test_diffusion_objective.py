"""Each option of the training loss against its definition, and that it changes something."""

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr

from stylelora.base.conditioning import Conditioning
from stylelora.diffusion import noise
from stylelora.diffusion.loss import add_noise, denoising_losses
from stylelora.diffusion.objective import Objective
from stylelora.records import InputError

KINDS = ("epsilon", "v_prediction")
KEYS = [(0, 3, row) for row in range(6)]
SHAPE = (4, 8, 8)
LATENTS = torch.randn(len(KEYS), *SHAPE, generator=torch.Generator().manual_seed(1))
GIVEN = Conditioning(torch.zeros(len(KEYS), 1, 1))
MANY = [("many", i) for i in range(4000)]


class Guess(torch.nn.Module):
    """Stands in for a UNet, and remembers what it saw."""

    dtype = torch.float32

    def forward(self, x, t, encoder_hidden_states):
        self.x, self.t = x, t
        return type("Output", (), {"sample": 0.3 * x})


def scheduler_of(kind):
    return DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind)


def losses(kind="epsilon", unet=None, **options):
    return Objective(**options).losses(unet or Guess(), scheduler_of(kind), LATENTS, KEYS, GIVEN)


def snr_of(kind="epsilon"):
    unet = Guess()
    losses(kind, unet)
    return compute_snr(scheduler_of(kind), unet.t)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_the_plain_loss_with_the_draws_of_before(kind):
    scheduler = scheduler_of(kind)
    draw = noise.normal([("noise", *key) for key in KEYS], SHAPE)
    timesteps = noise.timesteps([("timestep", *key) for key in KEYS], 1000)
    want = denoising_losses(Guess(), scheduler, LATENTS, draw, timesteps, GIVEN)
    assert torch.equal(losses(kind), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_those_of_the_diffusers_scripts(kind, gamma):
    """train_text_to_image_lora.py: min(snr, gamma) / snr, with snr + 1 below for v-prediction."""
    snr = snr_of(kind)
    weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    weights = weights / (snr + 1 if kind == "v_prediction" else snr)
    assert torch.allclose(losses(kind, min_snr_gamma=gamma), losses(kind) * weights, rtol=1e-5)
    assert weights.min() < 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_debiased_estimation_weights_by_the_root_of_the_noise(kind):
    snr = snr_of(kind).clamp(max=1000)
    weights = 1 / (snr + 1) if kind == "v_prediction" else 1 / snr.sqrt()
    assert torch.allclose(losses(kind, debiased_estimation=True), losses(kind) * weights, rtol=1e-5)


def test_huber_is_mse_for_small_errors_and_linear_for_large_ones():
    assert torch.allclose(losses(loss="huber", huber_c=100.0), losses(), rtol=1e-3)
    c, unet = 0.01, Guess()
    got = losses(loss="huber", huber_c=c, unet=unet)
    draw = noise.normal([("noise", *key) for key in KEYS], SHAPE)
    error = 0.3 * unet.x - draw
    assert torch.allclose(got, (2 * c * ((error**2 + c**2).sqrt() - c)).mean((1, 2, 3)), rtol=1e-5)
    assert torch.allclose(got, 2 * c * error.abs().mean((1, 2, 3)), rtol=0.1)


def test_noise_offset_shifts_whole_channels_by_its_share():
    keys = MANY[:500]
    shifted = Objective(noise_offset=0.5).draw_noise(keys, SHAPE)
    shift = shifted - Objective().draw_noise(keys, SHAPE)
    assert torch.allclose(shift, shift[..., :1, :1].expand_as(shift), atol=1e-6)
    assert shift[..., 0, 0].std() == pytest.approx(0.5, rel=0.05)
    assert abs(shift.mean()) < 0.05


def kohyas_pyramid(shape, iterations, discount, generator):
    """Whitaker's recipe as kohya has it: `pyramid_noise_like`, written anew with NumPy's draws, not normalised."""
    height, width = shape[-2:]
    total = torch.from_numpy(generator.standard_normal(shape))
    for i in range(iterations):
        r = generator.uniform(2, 4)
        size = [max(1, int(side / r**i)) for side in (height, width)]
        coarse = torch.from_numpy(generator.standard_normal((*shape[:2], *size)))
        total += torch.nn.Upsample((height, width), mode="bilinear")(coarse) * discount**i
        if 1 in size:
            break
    return total


@pytest.mark.parametrize(("iterations", "discount"), [(2, 0.8), (6, 0.3), (10, 0.9)])
def test_pyramid_noise_has_the_statistics_of_the_published_recipe(iterations, discount):
    shape, keys = (4, 32, 24), MANY[:300]
    draw = Objective(pyramid_iterations=iterations, pyramid_discount=discount).draw_noise(keys, shape).double()
    assert torch.allclose(draw.std((1, 2, 3)), torch.ones(300).double(), atol=1e-4)
    generator = np.random.default_rng(0)
    want = torch.cat([kohyas_pyramid((1, *shape), iterations, discount, generator) for _ in range(300)])
    want /= want.std((1, 2, 3), keepdim=True)
    for size in (1, 2, 4, 8):  # how much of it is how coarse
        got, expected = (torch.nn.functional.avg_pool2d(one, size).var() for one in (draw, want))
        assert got == pytest.approx(float(expected), rel=0.1), size
    plain = torch.nn.functional.avg_pool2d(Objective().draw_noise(keys, shape), 8).var()
    assert torch.nn.functional.avg_pool2d(draw, 8).var() > 1.3 * plain


def test_input_perturbation_changes_what_the_unet_sees_and_not_its_target():
    plain, perturbed, scheduler = Guess(), Guess(), scheduler_of("epsilon")
    losses(unet=plain)
    got = losses(unet=perturbed, input_perturbation=0.1)
    draw = noise.normal([("noise", *key) for key in KEYS], SHAPE)
    more = noise.normal([("perturbation", *key) for key in KEYS], SHAPE)
    assert torch.allclose(perturbed.x, add_noise(LATENTS, draw + 0.1 * more, perturbed.t, scheduler.alphas_cumprod))
    assert torch.allclose(got, (0.3 * perturbed.x - draw).square().mean((1, 2, 3)))
    assert not torch.equal(plain.x, perturbed.x)


def logit(u):
    return np.log(u / (1 - u))


#: Shares of timesteps below t = u, of 1000: the distribution functions that are promised.
BELOW = {
    "uniform": lambda u: u,
    "logit_normal": lambda u: NormalDist().cdf(logit(u)),  # Esser et al. 2024, eq. 19 with m = 0 and s = 1
    "style": lambda u: u ** (1 / 3),  # t = u^3, as in ai-toolkit
    "content": lambda u: 1 - (1 - u) ** (1 / 3),
}


@pytest.mark.parametrize("kind", BELOW)
def test_timesteps_are_drawn_as_said(kind):
    drawn = Objective(timesteps=kind).draw_timesteps(MANY, 1000)
    assert 0 <= drawn.min() and drawn.max() <= 999
    for u in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert float((drawn < 1000 * u).double().mean()) == pytest.approx(BELOW[kind](u), abs=0.025), u


@pytest.mark.parametrize("kind", ["uniform", "style"])
def test_timesteps_stay_in_their_range(kind):
    drawn = Objective(timesteps=kind, timestep_range=(0.2, 0.7)).draw_timesteps(MANY, 1000)
    assert (int(drawn.min()), int(drawn.max())) == (200, 699)
    few = Objective(timestep_range=(0.5, 0.5001)).draw_timesteps(MANY[:9], 1000)
    assert set(few.tolist()) == {500}


def halves():
    """A mask that is 1 on the left, 0.25 in the middle column and 0 on the right."""
    mask = torch.zeros(len(KEYS), 1, *SHAPE[1:])
    mask[..., :3], mask[..., 3] = 1, 0.25
    return mask


@pytest.mark.parametrize("options", [{}, {"loss": "huber"}, {"min_snr_gamma": 5.0}])
def test_a_mask_means_over_its_own_area(options):
    mask, unet = halves(), Guess()
    got = Objective(**options).losses(unet, scheduler_of("epsilon"), LATENTS, KEYS, GIVEN, mask)
    error = 0.3 * unet.x - noise.normal([("noise", *key) for key in KEYS], SHAPE)
    error = 0.2 * ((error**2 + 0.01).sqrt() - 0.1) if "loss" in options else error**2
    snr = compute_snr(scheduler_of("epsilon"), unet.t)
    weight = snr.clamp(max=5) / snr if "min_snr_gamma" in options else 1
    area = 4 * 8 * (3 + 0.25)
    assert torch.allclose(got, (error * mask).sum((1, 2, 3)) / area * weight, rtol=1e-5)
    white = torch.ones_like(mask)
    assert torch.equal(
        Objective(**options).losses(Guess(), scheduler_of("epsilon"), LATENTS, KEYS, GIVEN, white), losses(**options)
    )


def test_what_lies_outside_the_mask_has_no_part_in_the_gradient():
    class Pointwise(torch.nn.Module):
        """Predicts each number from its own input, so that only the loss can bring in what lies elsewhere."""

        dtype = torch.float32

        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.full(SHAPE, 0.3))

        def forward(self, x, t, encoder_hidden_states):
            return type("Output", (), {"sample": self.factor * x})

    def gradient(latents, mask=None):
        unet = Pointwise()
        Objective().losses(unet, scheduler_of("epsilon"), latents, KEYS, GIVEN, mask).sum().backward()
        return unet.factor.grad

    other = LATENTS.clone()
    other[..., 4:] += 5
    got = gradient(LATENTS, halves())
    assert torch.equal(got, gradient(other, halves()))
    assert torch.count_nonzero(got[..., 4:]) == 0 and torch.count_nonzero(got[..., :4]) == got[..., :4].numel()
    assert not torch.equal(gradient(LATENTS), gradient(other))


@pytest.mark.parametrize("options", [{}, {"pyramid_iterations": 3}, {"timesteps": "style"}, {"noise_offset": 0.1}])
def test_draws_depend_on_their_keys_alone(options):
    objective = Objective(**options)
    assert torch.equal(objective.draw_noise(KEYS, SHAPE)[2:3], objective.draw_noise(KEYS[2:3], SHAPE))
    assert torch.equal(objective.draw_timesteps(KEYS, 1000)[2:3], objective.draw_timesteps(KEYS[2:3], 1000))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise_offset": -0.1}, "noise_offset is -0.1"),
        ({"noise_offset": float("nan")}, "noise_offset is nan"),
        ({"input_perturbation": float("inf")}, "input_perturbation is inf"),
        ({"pyramid_iterations": 11}, "pyramid_iterations is 11"),
        ({"pyramid_iterations": 1}, "pyramid_iterations is 1 .* give 2 to 10"),
        ({"pyramid_iterations": -2}, "pyramid_iterations is -2"),
        ({"pyramid_discount": float("nan")}, "a discount between 0 and 1"),
        ({"pyramid_discount": 0.5}, "pyramid_discount has no effect without objective.pyramid_iterations"),
        ({"pyramid_iterations": 6, "noise_offset": 0.1}, "both add coarse noise; choose one"),
        ({"huber_c": 0.2}, "huber_c has no effect without objective.loss huber"),
        ({"huber_c": float("nan"), "loss": "huber"}, "huber_c is nan"),
        ({"min_snr_gamma": float("nan")}, "min_snr_gamma is nan"),
        ({"min_snr_gamma": -5.0}, "min_snr_gamma is -5.0"),
        ({"input_perturbation": -0.1}, "input_perturbation is -0.1"),
        ({"timestep_range": (-0.1, 0.5)}, "two rising shares"),
        ({"timestep_range": (0.0, float("inf"))}, "two rising shares"),
        ({"pyramid_discount": 1.0}, "a discount between 0 and 1"),
        ({"huber_c": 0.0}, "huber_c is 0.0"),
        ({"min_snr_gamma": 0.0}, "min_snr_gamma is 0.0"),
        ({"min_snr_gamma": 5.0, "debiased_estimation": True}, "choose one"),
        ({"timestep_range": (0.7, 0.2)}, "two rising shares"),
        ({"timestep_range": (0.0, float("nan"))}, "two rising shares"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        Objective(**options).check()


def test_every_option_changes_the_loss():
    changes = {
        "loss": "huber", "min_snr_gamma": 1.0, "debiased_estimation": True, "noise_offset": 0.1,
        "pyramid_iterations": 3, "input_perturbation": 0.1, "timesteps": "style", "timestep_range": (0.0, 0.5),
    }  # fmt: skip
    rest = {"huber_c", "pyramid_discount"}  # of other options
    rest |= {"zero_terminal_snr"}  # a schedule: test_diffusion_zero_terminal_snr.py
    assert changes.keys() | rest == {field.name for field in dataclasses.fields(Objective)}
    for name, value in changes.items():
        assert not torch.allclose(losses(**{name: value}), losses()), name
    for name, values, needed in (
        ("huber_c", (0.1, 0.2), {"loss": "huber"}),
        ("pyramid_discount", (0.3, 0.6), {"pyramid_iterations": 3}),
    ):
        first, second = (losses(**needed, **{name: value}) for value in values)
        assert not torch.allclose(first, second), name
