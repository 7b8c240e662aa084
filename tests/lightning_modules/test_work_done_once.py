"""What a training computes once, and what not at all: counted, not timed."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.models import modeling_utils

from lightning_modules import ComposedStyles, StyleLoRA
from stylelora.base.conditioning import Conditioning, predict
from stylelora.base.load import load_unet, load_vae
from stylelora.diffusion import blends
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_losses, bank_stages
from stylelora.diffusion.objective import Objective
from tests.counting import Operations
from tests.runs import adamw
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


def test_a_plain_loss_copies_no_weights_to_the_device_after_the_prediction(tiny_sd):
    """On a GPU such a copy waits for the prediction, and the backward pass for the copy."""
    given = torch.randn(2, 4, 8, 8), [(0,), (1,)], Conditioning(training_batch()["text"])
    module, order = StyleLoRA(str(tiny_sd), rank=4), []

    class Watched:
        """The scheduler, which notes when its table is asked for."""

        config = module.scheduler.config

        @property
        def alphas_cumprod(self):
            order.append("table")
            return module.scheduler.alphas_cumprod

    module.unet.register_forward_hook(lambda *_: order.append("prediction"))
    for objective in (Objective(), Objective(min_snr_gamma=5.0)):
        objective.losses(module.unet, Watched(), *given)
        assert order[-1] == "prediction" and order.count("table") == 3
        order.clear()
    assert Objective().weights(torch.tensor([1]), None, "epsilon") == 1.0


@pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered.*")
def test_a_step_asks_the_device_one_question(tiny_sd):
    """Each number that the CPU waits for keeps the GPU from working ahead."""
    module = StyleLoRA(str(tiny_sd), rank=4, optimizer=adamw(1e-3))
    optimizer = module._optimizer()
    for _ in range(2):
        with Operations() as made:
            module.training_step(training_batch(), 0).backward()
            module.watch.check_step(1, SimpleNamespace(scaler=None))
            optimizer.step()
            optimizer.zero_grad()
        assert made.count["_local_scalar_dense"] == 1
        assert made.count["_fused_adamw_"] == 1


def test_nothing_is_differentiated_below_the_first_adapted_layer(tiny_sd):
    module, needed = StyleLoRA(str(tiny_sd), rank=4, target_modules=["up_blocks.1.attentions.0.proj_in"]), {}
    for name, layer in module.unet.named_modules():
        layer.register_forward_hook(
            lambda *given, name=name: needed.update({name: getattr(given[-1], "requires_grad", None)})
        )
    predict(module.unet, training_batch()["mean"], torch.tensor(7), Conditioning(training_batch()["text"]))
    below = [
        name for name in needed if name.startswith(("conv_in", "time_", "down_blocks", "mid_block", "up_blocks.0"))
    ]
    assert len(below) > 100 and not any(needed[name] for name in below)
    assert needed["conv_out"]


def test_blends_are_made_once_and_the_base_begins_once_for_all_of_them(tiny_sd, adapter_files, monkeypatch):
    """Four steps are five calls of PNDM, the first two of them the base's, for every blend the same."""
    made, original = [], blends.blend
    monkeypatch.setattr(blends, "blend", lambda *given: made.append(given[1]) or original(*given))
    weights = [[0.6, 0.4], [1, 0]]
    alone, together = (
        ComposedStyles([*map(str, adapter_files)], some, str(tiny_sd), starts=[0.5, 0.5], num_inference_steps=4)
        for some in (weights[1:], weights)
    )
    batch = {"index": [0, 1], "content": ["a cat", "a tree"], "negative_prompt": ["", ""], "size": (64, 64)}
    batch |= {"num_inference_steps": None, "guidance_scale": None, "seed": [0, 1]}
    with torch.no_grad():
        expected = [row["image"] for row in alone.predict_step(batch, 0) if row["label"] != "base"]
    made.clear()
    calls = []
    together.painter.unet.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        calls.clear()
        with torch.no_grad():
            rows = together.predict_step(batch, 0)
        assert len(calls) == 5 + 3 + 3
    assert made == [(0.6, 0.4), (1.0,)], "once per arm, for all batches"
    found = [row["image"] for row in rows if row["label"] == "ink 1"]
    assert len(found) == 2 and all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
