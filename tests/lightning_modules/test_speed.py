"""What a training computes once, and what not at all: counted, not timed."""

import pytest
import torch
from diffusers.models import modeling_utils

from lightning_modules import StyleLoRA
from stylelora.base.conditioning import Conditioning, predict
from stylelora.base.load import load_unet, load_vae
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_losses, bank_stages
from tests.tiny_sd import disturb, training_batch


def test_a_prediction_does_not_search_the_network_for_its_type(tiny_sd, monkeypatch):
    searched, batch, unet = [], training_batch(), load_unet(tiny_sd)
    original = modeling_utils.get_parameter_dtype
    monkeypatch.setattr(modeling_utils, "get_parameter_dtype", lambda one: searched.append(one) or original(one))
    for dtype in (torch.float32, torch.bfloat16):
        unet = unet.to(dtype)
        with torch.no_grad():
            found = predict(unet, batch["mean"], torch.tensor(7), Conditioning(batch["text"]))
        assert found.dtype == dtype
    assert not searched
    assert unet.dtype == torch.bfloat16 and searched, "diffusers searches there"


def test_stages_of_a_sampler_divide_the_timesteps_of_held_out_losses():
    assert bank_stages([0.0]) == [list(range(8))]
    assert bank_stages([0.0, 0.0]) == [[], list(range(8))]
    assert bank_stages([0.0, 0.2, 0.6]) == [[6, 7], [3, 4, 5], [0, 1, 2]]
    assert bank_stages([0.0, 0.99]) == [list(range(8)), []]


@pytest.mark.parametrize(("start", "calls"), [(0.0, 8), (0.2, 6), (0.99, 0)])
def test_held_out_losses_are_computed_where_the_adapter_draws(tiny_sd, monkeypatch, start, calls):
    module = StyleLoRA(str(tiny_sd), rank=4, start=start)
    batch, asked = training_batch() | {"sha256": ["a", "b"]}, []
    module.unet.register_forward_hook(lambda *_: asked.append(1))
    module._base_losses = {row: torch.full([8], 7.0) for row in batch["row"]}
    with torch.no_grad():
        module.validation_step(batch, 0)
    assert len(asked) == calls
    own = [timestep for timestep in BANK_TIMESTEPS if timestep <= 1000 * (1 - start)]
    latents = batch["mean"] * module.scaling_factor
    with torch.no_grad():
        whole = bank_losses(module.unet, module.scheduler, latents, batch["sha256"], Conditioning(batch["text"]))
    expected = torch.cat([whole[:, : len(own)], torch.full([2, 8 - len(own)], 7.0)], 1).mean(1)
    assert torch.equal(torch.stack([row["loss"] for row in module._held_out]), expected)


@pytest.mark.parametrize(("start", "shared"), [(0.0, 0), (0.4, 2)])
def test_what_the_base_draws_before_the_adapter_joins_is_drawn_once(tiny_sd, monkeypatch, start, shared):
    """Five steps are six calls of PNDM: the base's own pictures, then only the adapter's part of each sheet."""
    module, loads = StyleLoRA(str(tiny_sd), rank=4, num_inference_steps=5, start=start), []
    monkeypatch.setattr("stylelora.diffusion.samples.load_vae", lambda base: loads.append(1) or load_vae(base))
    batch = {name: [0, 1] for name in ("index", "place", "seed")} | {"latent_shape": (4, 8, 8)}
    batch |= {name: ["a", "b"] for name in ("prompt", "content", "negative_prompt")}
    batch |= {"num_inference_steps": None, "guidance_scale": None}
    texts = torch.randn(3, 2, 77, 32, generator=torch.Generator().manual_seed(0))
    batch |= dict(zip(("text", "content_text", "negative_text"), texts, strict=True))
    calls, sheets = [], []
    module.unet.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for expected in (6 + 6 - shared, 6 - shared, 6 - shared):
            disturb(module.unet)
            sheets.append(module.sampler.draw(module.unet, batch))
            assert len(calls) == expected
            calls.clear()
        module.sampler.forget()
        anew = module.sampler.draw(module.unet, batch)
    assert len(calls) == 6 + 6 - shared
    assert torch.equal(anew.images, sheets[-1].images) and torch.equal(anew.base_images, sheets[-1].base_images)
    assert not torch.equal(sheets[0].images, sheets[1].images)
    assert len(loads) == 1
