"""Zero terminal SNR against algorithm 1 of Lin et al. 2023, and where it must not be used or forgotten."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler

from lightning_modules import ComposedStyles, StyleLoRA
from stylelora.base.conditioning import Conditioning
from stylelora.base.load import load_scheduler
from stylelora.base.zero_terminal_snr import scheduler_for, with_zero_terminal_snr
from stylelora.diffusion.objective import Objective
from stylelora.diffusion.schedulers import other_scheduler
from stylelora.records import InputError
from tests.lora_files import with_notes

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
V = SD | {"prediction_type": "v_prediction"}
KINDS = (DDIMScheduler, PNDMScheduler, DPMSolverMultistepScheduler)


def algorithm_1():
    """The paper's listing, with NumPy in float64: alphas_cumprod after rescaling."""
    alphas_bar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    roots = np.sqrt(alphas_bar)
    first, last = roots[0], roots[-1]
    return ((roots - last) * first / (first - last)) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_schedule_is_that_of_algorithm_1_and_steps_begin_at_its_end(kind):
    scheduler = Objective(zero_terminal_snr=True).schedule(kind(**V))
    np.testing.assert_allclose(scheduler.alphas_cumprod, algorithm_1(), atol=1e-6)
    assert kind(**V).alphas_cumprod[-1].sqrt() > 0.06 > 1e-3 > scheduler.alphas_cumprod[-1].sqrt()
    scheduler.set_timesteps(5)
    assert scheduler.timesteps.tolist() == [999, 799, 599, 399, 199]  # trailing: table 2 of the paper
    assert scheduler.config.prediction_type == "v_prediction"
    assert kind is DDIMScheduler or not scheduler.config.get("clip_sample")  # latents have no range
    assert isinstance(scheduler, DDIMScheduler if kind is PNDMScheduler else kind)


def test_the_plain_schedule_stays_that_of_the_base():
    base = PNDMScheduler(**SD)
    assert Objective().schedule(base) is base


def test_the_last_timestep_shows_nothing_of_the_picture_and_its_target_is_the_picture():
    seen = {}

    class Guess(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, t, encoder_hidden_states):
            seen.update(x=x, t=t)
            return type("Output", (), {"sample": torch.zeros_like(x)})

    objective = Objective(zero_terminal_snr=True, timestep_range=(0.999, 1.0))
    latents, given = torch.randn(3, 4, 8, 8) + 2, Conditioning(torch.zeros(3, 1, 1))
    losses = objective.losses(
        Guess(), objective.schedule(DDIMScheduler(**V)), latents, [(0, i) for i in range(3)], given
    )
    assert seen["t"].tolist() == [999] * 3
    assert torch.allclose(seen["x"], objective.draw_noise([(0, i) for i in range(3)], (4, 8, 8)), atol=1e-5)
    assert torch.allclose(losses, latents.square().mean((1, 2, 3)), rtol=1e-4)  # v = -x_0 there


@pytest.mark.parametrize("weights", [{"min_snr_gamma": 5.0}, {"debiased_estimation": True}])
def test_weights_are_finite_at_the_last_timestep(weights):
    scheduler = Objective(zero_terminal_snr=True).schedule(DDIMScheduler(**V))
    last = Objective(**weights).weights(torch.tensor([999, 0]), scheduler.alphas_cumprod, "v_prediction")
    assert last.isfinite().all()
    assert last[0] == (0 if "min_snr_gamma" in weights else 1)  # 0 / (0 + 1), and 1 / (0 + 1)


@pytest.mark.parametrize("base", [PNDMScheduler(**SD), DDIMScheduler(**SD, rescale_betas_zero_snr=True)])
def test_a_base_that_predicts_noise_is_refused(base):
    asked = "rescale_betas_zero_snr" not in base.config
    with pytest.raises(InputError, match="needs a base that predicts v, and this one predicts noise"):
        Objective(zero_terminal_snr=asked).schedule(base)


def test_it_is_refused_before_anything_is_loaded(tiny_sd, monkeypatch):
    monkeypatch.setattr("lightning_modules.style_lora.load_unet", lambda *_: pytest.fail("the UNet was loaded"))
    with pytest.raises(InputError, match="zero_terminal_snr needs a base that predicts v"):
        StyleLoRA(base=str(tiny_sd), objective=Objective(zero_terminal_snr=True))


@pytest.fixture
def bases(tiny_sd, tmp_path):
    """The tiny base with another scheduler config."""

    def make(name, **config):
        folder = shutil.copytree(tiny_sd, tmp_path / name, copy_function=lambda a, b: shutil.os.symlink(a, b))
        file = folder / "scheduler" / "scheduler_config.json"
        said = json.loads(file.read_text()) | config
        file.unlink()
        file.write_text(json.dumps(said))
        return folder

    return make


def test_a_base_that_says_it_is_heeded(bases):
    """PNDM, in the tiny base's config, would ignore it."""
    for said, expected in ((True, algorithm_1()), (False, np.asarray(PNDMScheduler(**SD).alphas_cumprod))):
        folder = bases(str(said), prediction_type="v_prediction", rescale_betas_zero_snr=said)
        np.testing.assert_allclose(load_scheduler(folder).alphas_cumprod, expected, atol=1e-6)
        np.testing.assert_allclose(StyleLoRA(base=str(folder)).scheduler.alphas_cumprod, expected, atol=1e-6)
    own = DDIMScheduler(**V, rescale_betas_zero_snr=True, timestep_spacing="linspace")
    assert with_zero_terminal_snr(own) is own  # its own spacing stays


def test_samples_while_training_use_it(bases):
    base = str(bases("v", prediction_type="v_prediction"))
    batch = {"index": [0], "place": [0], "prompt": ["a fox"], "content": ["a fox"], "seed": [0]}
    batch |= {"latent_shape": (4, 8, 8), "num_inference_steps": None, "guidance_scale": None}
    batch |= {name: torch.ones(1, 77, 32) * i for i, name in enumerate(("text", "content_text", "negative_text"))}
    pictures = []
    for asked in (False, True):
        module = StyleLoRA(base=base, num_inference_steps=3, objective=Objective(zero_terminal_snr=asked))
        seen = []
        module.unet.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(int(args[1])))
        pictures.append(module.sampler.draw(module.unet, batch).images)
        assert seen == ([999, 666, 332] if asked else seen) * (len(seen) // 3 if asked else 1)
    assert not torch.equal(*pictures)


def test_other_programs_loras_are_sampled_as_they_were_trained(bases, adapter_files, tmp_path, caplog):
    base = str(bases("v", prediction_type="v_prediction"))
    flat = [
        with_notes(file, tmp_path / f"{said}.safetensors", ss_zero_terminal_snr=said)
        for file, said in zip(adapter_files, ("True", "False"), strict=True)
    ]
    followed = ComposedStyles([flat[0]], [1], base).painter.scheduler
    np.testing.assert_allclose(followed.alphas_cumprod, algorithm_1(), atol=1e-6)
    assert "True was trained with zero terminal SNR, so the sampler has it, too" in caplog.text
    caplog.clear()
    plain = ComposedStyles(flat, [1, 1], base).painter.scheduler
    assert "but others were not, so the sampler has not" in caplog.text
    assert torch.equal(plain.alphas_cumprod, load_scheduler(bases("w", prediction_type="v_prediction")).alphas_cumprod)
    caplog.clear()
    assert type(ComposedStyles([flat[1]], [1], base).painter.scheduler) is PNDMScheduler and not caplog.text


def test_where_it_cannot_be_followed_it_is_said(caplog):
    noise, already = PNDMScheduler(**SD), DDIMScheduler(**V, rescale_betas_zero_snr=True)
    notes = {"ink": {"ss_zero_terminal_snr": "True"}}
    assert scheduler_for(notes, noise) is noise
    assert "ink was trained with zero terminal SNR, but this base predicts noise" in caplog.text
    caplog.clear()
    assert scheduler_for(notes, already) is already and not caplog.text
    with pytest.raises(InputError, match="PNDMScheduler knows no zero terminal SNR; give a class that does"):
        other_scheduler("diffusers.PNDMScheduler", already, 4)
    other = other_scheduler("diffusers.EulerDiscreteScheduler", already, 4)
    np.testing.assert_allclose(other.alphas_cumprod[:-1], algorithm_1()[:-1], atol=1e-6)
