import copy

import pytest
import torch

from stylelora.base.conditioning import Conditioning
from stylelora.base.load import load_scheduler, load_unet, load_vae
from stylelora.diffusion import noise
from stylelora.diffusion.loss import BANK_TIMESTEPS, add_noise, denoising_losses, target_of
from stylelora.diffusion.sample import decode, denoise, initial_noise
from stylelora.seeds import generator

TIMESTEPS = torch.tensor([0, 1, 500, 998, 999])


@pytest.fixture(scope="module")
def parts(tiny_sd):
    return load_unet(tiny_sd), load_scheduler(tiny_sd)


@pytest.fixture(scope="module")
def pipeline(tiny_sd):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def draws():
    return torch.randn(2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_noise_is_added_as_diffusers_adds_it(parts, draws):
    latents, draw = draws
    want = parts[1].add_noise(latents, draw, TIMESTEPS)
    torch.testing.assert_close(add_noise(latents, draw, TIMESTEPS, parts[1].alphas_cumprod), want, atol=1e-6, rtol=0)


def test_targets_are_those_of_diffusers(draws):
    from diffusers import DDPMScheduler

    latents, draw = draws
    scheduler = DDPMScheduler(beta_schedule="scaled_linear")
    velocity = scheduler.get_velocity(latents, draw, TIMESTEPS)
    got = target_of("v_prediction", latents, draw, TIMESTEPS, scheduler.alphas_cumprod)
    torch.testing.assert_close(got, velocity, atol=1e-6, rtol=0)
    assert torch.equal(target_of("epsilon", latents, draw, TIMESTEPS, scheduler.alphas_cumprod), draw)
    with pytest.raises(ValueError, match="'sample' is not supported"):
        target_of("sample", latents, draw, TIMESTEPS, scheduler.alphas_cumprod)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_pictures_loss_is_its_own_mean_squared_error(parts, draws, kind):
    unet, scheduler = parts[0], type(parts[1]).from_config(parts[1].config, prediction_type=kind)
    latents, draw = draws
    text = torch.randn(5, 77, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = denoising_losses(unet, scheduler, latents, draw, TIMESTEPS, Conditioning(text))
        for i in range(5):
            pick = slice(i, i + 1)
            noisy = scheduler.add_noise(latents[pick], draw[pick], TIMESTEPS[pick])
            alpha = scheduler.alphas_cumprod[TIMESTEPS[i]]
            target = draw[pick] if kind == "epsilon" else alpha.sqrt() * draw[pick] - (1 - alpha).sqrt() * latents[pick]
            want = ((unet(noisy, TIMESTEPS[i], text[pick]).sample - target) ** 2).mean()
            torch.testing.assert_close(got[i], want, atol=1e-6, rtol=1e-5)


def test_the_bank_holds_the_midpoints_of_eight_equal_parts():
    assert [int(1000 / 8 * (i + 0.5)) for i in range(8)] == list(BANK_TIMESTEPS)


@pytest.mark.parametrize("guidance_scale", [1, 7.5])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNDMScheduler", {}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
        ("DDIMScheduler", {"set_alpha_to_one": False, "clip_sample": False}),
    ],
)
def test_denoising_equals_the_pipeline(parts, pipeline, name, options, guidance_scale):
    import diffusers

    kind = getattr(diffusers, name)
    pipeline.scheduler = scheduler = kind.from_config(parts[1].config, **options)
    prompts = ["a fox", "a house by a lake"]
    text, empty = pipeline.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=True)
    start = initial_noise([0, 7], (4, 8, 8))
    want = pipeline(
        prompts, latents=start, num_inference_steps=5, guidance_scale=guidance_scale, output_type="latent"
    ).images
    given = Conditioning(text), Conditioning(empty[:1])
    got = denoise(parts[0], kind.from_config(scheduler.config), start, *given, 5, guidance_scale)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, start, atol=0.1)


def test_denoising_leaves_model_and_scheduler_as_they_were(parts):
    unet, scheduler = parts
    unet.train()
    scheduler.set_timesteps(7)
    before = copy.deepcopy(scheduler.__dict__)
    text = Conditioning(torch.zeros(1, 77, 32))
    denoise(unet, scheduler, initial_noise([0], (4, 8, 8)), text, text, 2, 4.0)
    assert unet.training
    unet.eval()
    assert scheduler.__dict__.keys() == before.keys()
    assert torch.equal(scheduler.timesteps, before["timesteps"])


def test_decoding_equals_the_pipelines_pictures(tiny_sd, pipeline, draws):
    latents = draws[0] * 0.5
    got = decode(load_vae(tiny_sd), latents, batch_size=2)
    with torch.no_grad():
        want = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    want = pipeline.image_processor.postprocess(want, output_type="np")
    want = torch.from_numpy((want * 255).round().astype("int64")).permute(0, 3, 1, 2)
    assert got.dtype == torch.uint8
    assert got.shape == (5, 3, 64, 64)
    assert (got.long() - want).abs().max() <= 1
    assert got.float().std() > 1


def test_a_draw_depends_on_its_key_alone():
    keys = [("noise", 0, epoch, row) for epoch in range(2) for row in range(4)]
    together = noise.normal(keys, (4, 8, 8))
    backwards = noise.normal(keys[::-1], (4, 8, 8)).flip(0)
    alone = torch.cat([noise.normal([key], (4, 8, 8)) for key in keys])
    assert torch.equal(together, backwards)
    assert torch.equal(together, alone)
    steps = noise.timesteps(keys, 1000)
    assert torch.equal(steps, noise.timesteps(keys[::-1], 1000).flip(0))
    assert len({draw.flatten()[0].item() for draw in together}) == len(keys)


def test_keys_that_look_alike_differ():
    keys = [("a", 1, 23), ("a", 12, 3), ("a", 123), ("a", "123"), ("b", 123), (123, "a")]
    assert len({generator(*key).initial_seed() for key in keys}) == len(keys)


def test_the_global_generator_neither_decides_nor_notices():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = noise.normal([("x", 1)], (16,)), noise.timesteps([("x", 2)], 1000), initial_noise([3], (4, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = noise.normal([("x", 1)], (16,)), noise.timesteps([("x", 2)], 1000), initial_noise([3], (4, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_draws_are_standard_normal_and_timesteps_uniform():
    draw = noise.normal([("moments", i) for i in range(400)], (4, 8, 8))
    assert abs(draw.mean()) < 0.02
    assert abs(draw.std() - 1) < 0.02
    assert abs((draw**4).mean() - 3) < 0.15
    rows = draw.flatten(1)
    correlation = (rows[:-1] * rows[1:]).mean()  # neighbouring keys share nothing
    assert abs(correlation) < 0.02
    steps = noise.timesteps([("moments", i) for i in range(4000)], 8)
    assert steps.bincount(minlength=8).float().div(4000).sub(1 / 8).abs().max() < 0.02
    assert steps.min() == 0 and steps.max() == 7
