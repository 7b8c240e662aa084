"""The adapter's forward pass gives what PEFT's own does, with fewer passes over its inputs and outputs."""

import pytest
import torch

from benchmarks.memory import autocast_as_on_cuda
from stylelora.base.conditioning import Conditioning, predict
from stylelora.base.load import load_unet
from stylelora.lora.inject import adapted_modules, adapter_disabled, adapter_parameters, inject_lora
from stylelora.precision import cast_frozen
from tests.counting import Operations
from tests.tiny_sd import disturb, training_batch

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "time_emb_proj", "proj_in", "conv1", "conv2"]
T = torch.tensor([10, 700])


def adapted(base, alpha, dtype=torch.float32):
    unet = load_unet(base).to(dtype)
    inject_lora(unet, 4, alpha, 0.0, TARGETS, seed=0)
    disturb(unet)
    return unet


def loss(unet, mixed=False):
    batch, dtype = training_batch(), unet.conv_in.weight.dtype
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        predicted = unet(batch["mean"].to(dtype), T, encoder_hidden_states=batch["text"].to(dtype)).sample
    return predicted.float().square().mean()


def step(unet, mixed=False):
    unet.zero_grad()
    (made := loss(unet, mixed)).backward()
    return made.item(), torch.cat([one.grad.flatten() for one in adapter_parameters(unet)])


@pytest.mark.parametrize("alpha", [4.0, 3.0])
@pytest.mark.parametrize(
    ("dtype", "mixed", "rtol"),
    [(torch.float32, False, 1e-5), (torch.float32, True, 2e-2), (torch.bfloat16, False, 2e-2)],
)
def test_loss_and_gradients_are_those_of_peft(tiny_sd, alpha, dtype, mixed, rtol):
    unet = adapted(tiny_sd, alpha, dtype)
    ours, gradients = step(unet, mixed)
    with adapter_disabled(unet):
        base = loss(unet, mixed).item()
    for layer in adapted_modules(unet).values():
        layer.lora_variant.clear()
        layer.cast_input_dtype_enabled = True
    theirs, reference = step(unet, mixed)
    assert abs(ours - base) > 0.01 * base, "the adapter counts"
    assert ours == pytest.approx(theirs, rel=rtol)
    assert (gradients - reference).norm() <= 10 * rtol * reference.norm()


def test_an_adapter_costs_a_linear_layer_two_products_and_no_other_pass(tiny_sd):
    unet = adapted(tiny_sd, 4.0)
    layers = adapted_modules(unet).values()
    linear = sum(isinstance(layer.get_base_layer(), torch.nn.Linear) for layer in layers)
    assert 0 < linear < len(layers)
    with torch.no_grad(), Operations() as ours:
        loss(unet)
    with torch.no_grad(), adapter_disabled(unet), Operations() as base:
        loss(unet)
    more = ours.count - base.count
    assert more["mul"] == 0, "a scale of 1 multiplies nothing"
    assert more["add"] == len(layers) - linear, "convolutions add in a pass of their own"
    assert more["_to_copy"] == 0
    assert more["convolution"] == 2 * (len(layers) - linear)


def half_step(unet, mixed=True):
    """A training step of a base in bfloat16, as `fit` makes it."""
    batch = training_batch()
    unet.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        predicted = predict(unet, batch["mean"], T, Conditioning(batch["text"]))
    predicted.float().square().mean().backward()
    return predicted.detach(), [one.grad for one in adapter_parameters(unet)]


def flat(tensors):
    return torch.cat([one.flatten() for one in tensors])


def half(base):
    unet = adapted(base, 4.0)
    cast_frozen(unet, "bfloat16")
    return unet.train()


def test_a_base_in_half_precision_casts_all_weights_of_the_adapter_at_once(tiny_sd):
    """Autocast casts each weight, and each normalisation's input and weights: an operation each, and one back."""
    unet = half(tiny_sd)
    half_step(unet)
    with Operations() as ours:
        half_step(unet)
    with adapter_disabled(unet), torch.no_grad(), Operations() as base:
        predict(unet, training_batch()["mean"], T, Conditioning(training_batch()["text"]))
    assert ours.count["_foreach_copy_"] == 2, "weights, and their gradients"
    assert ours.count["_to_copy"] <= base.count["_to_copy"] + 3, "the prediction to float32 and its gradient back"
    assert base.count["_to_copy"] <= 4, "latents, texts, timesteps"
    assert base.count["_foreach_copy_"] == 0, "switched off, nothing is cast"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_cast_at_once_or_one_by_one_predictions_and_gradients_are_the_same_bits(tiny_sd, checkpointing):
    unet = half(tiny_sd)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    predicted, gradients = half_step(unet)
    assert {one.dtype for one in gradients} == {torch.float32}
    assert flat(gradients).norm() > 0
    assert not any("cast" in module.__dict__ for module in unet.modules()), "nothing stays"
    unet._forward_pre_hooks.clear()
    one_by_one = half_step(unet)
    assert torch.equal(predicted, one_by_one[0])
    assert all(map(torch.equal, gradients, one_by_one[1]))


def test_a_base_in_half_precision_is_as_exact_without_autocast(tiny_sd):
    unet, exact = half(tiny_sd), adapted(tiny_sd, 4.0).train()
    with autocast_as_on_cuda():
        predicted, gradients = half_step(unet)
        true, of_true = half_step(exact, mixed=False)
        _, of_mixed = step(unet, mixed=True)
    errors = [flat(of_true) - one for one in (flat(gradients), of_mixed)]
    assert errors[0].norm() < 1.2 * errors[1].norm()
    assert (predicted - true).norm() < 0.02 * true.norm()
    assert not torch.equal(flat(gradients), of_mixed), "else autocast was on"
