"""The adapter's forward pass gives what PEFT's own does, with fewer passes over the outputs."""

import pytest
import torch

from stylelora.base.load import load_unet
from stylelora.lora.inject import adapted_modules, adapter_disabled, adapter_parameters, inject_lora
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
