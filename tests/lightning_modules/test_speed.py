"""What a training computes once, and what not at all: counted, not timed."""

import pytest
import torch
from diffusers.models import modeling_utils

from lightning_modules import StyleLoRA
from stylelora.base.conditioning import Conditioning, predict
from stylelora.base.load import load_unet
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_losses, bank_stages
from tests.tiny_sd import training_batch


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
