"""Each option of the training loss against its definition, and that it changes something."""

import dataclasses

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


def test_pyramid_noise_has_unit_variance_and_coarse_structure():
    keys, shape = MANY[:60], (4, 32, 32)
    plain, pyramid = Objective().draw_noise(keys, shape), Objective(pyramid_iterations=6, pyramid_discount=0.8)
    draw = pyramid.draw_noise(keys, shape)
    assert torch.allclose(draw.std((1, 2, 3)), torch.ones(60), atol=1e-4)
    coarse = [torch.nn.functional.avg_pool2d(one, 8).std() for one in (plain, draw)]
    assert coarse[1] > 3 * coarse[0]
    fine = [(one[..., 1:] - one[..., :-1]).std() for one in (plain, draw)]
    assert fine[1] < fine[0]


def test_input_perturbation_changes_what_the_unet_sees_and_not_its_target():
    plain, perturbed, scheduler = Guess(), Guess(), scheduler_of("epsilon")
    losses(unet=plain)
    got = losses(unet=perturbed, input_perturbation=0.1)
    draw = noise.normal([("noise", *key) for key in KEYS], SHAPE)
    more = noise.normal([("perturbation", *key) for key in KEYS], SHAPE)
    assert torch.allclose(perturbed.x, add_noise(LATENTS, draw + 0.1 * more, perturbed.t, scheduler.alphas_cumprod))
    assert torch.allclose(got, (0.3 * perturbed.x - draw).square().mean((1, 2, 3)))
    assert not torch.equal(plain.x, perturbed.x)


@pytest.mark.parametrize(("kind", "mean"), [("uniform", 500), ("logit_normal", 500), ("style", 250), ("content", 750)])
def test_timesteps_are_drawn_as_said(kind, mean):
    """The mean of u^3 is 1/4."""
    drawn = Objective(timesteps=kind).draw_timesteps(MANY, 1000).double()
    assert drawn.mean() == pytest.approx(mean, abs=15)
    middle = ((drawn > 300) & (drawn < 700)).double().mean()
    want = {"uniform": 0.4, "logit_normal": 0.60}.get(kind)  # Phi(ln(7/3)) - Phi(-ln(7/3)) = 0.603
    assert want is None or middle == pytest.approx(want, abs=0.03)


@pytest.mark.parametrize("kind", ["uniform", "style"])
def test_timesteps_stay_in_their_range(kind):
    drawn = Objective(timesteps=kind, timestep_range=(0.2, 0.7)).draw_timesteps(MANY, 1000)
    assert (int(drawn.min()), int(drawn.max())) == (200, 699)
    few = Objective(timestep_range=(0.5, 0.5001)).draw_timesteps(MANY[:9], 1000)
    assert set(few.tolist()) == {500}


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
    assert changes.keys() | rest == {field.name for field in dataclasses.fields(Objective)}
    for name, value in changes.items():
        assert not torch.allclose(losses(**{name: value}), losses()), name
