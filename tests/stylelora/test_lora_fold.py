"""An adapter in the base's weights predicts as beside them, at the base's cost, and leaves nothing behind."""

import pytest
import torch

from stylelora.base.load import load_unet
from stylelora.lora.fold import folded
from stylelora.lora.inject import adapted_modules, adapter_disabled, inject_lora
from stylelora.lora.options import LoraOptions
from tests.counting import Operations
from tests.tiny_sd import disturb, predict

TARGETS = ["to_q", "to_out.0", "proj_in", "conv1", "conv2"]


def adapted(base, alpha=4.0, dtype=torch.float32, **options):
    unet = load_unet(base).to(dtype)
    inject_lora(unet, 4, alpha, 0.0, TARGETS, seed=0, options=LoraOptions(**options))
    disturb(unet)
    return unet.eval()


def states(unet):
    return {name: value.clone() for name, value in unet.state_dict().items()}


@pytest.mark.parametrize(
    ("alpha", "options"), [(4.0, {}), (3.0, {"use_rslora": True}), (None, {"init_lora_weights": "pissa"})]
)
def test_it_predicts_the_same_as_beside_the_weights_and_costs_nothing(tiny_sd, alpha, options):
    unet = adapted(tiny_sd, alpha, **options)
    before, beside = states(unet), predict(unet)
    with adapter_disabled(unet), Operations() as alone:
        base = predict(unet)
    assert (beside - base).abs().max() > 1e-2
    with folded(unet):
        with Operations() as inside:
            found = predict(unet)
        assert torch.allclose(found, beside, atol=1e-5)
        assert inside.count == alone.count
    assert torch.equal(predict(unet), beside)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_one_that_is_switched_off_stays_off_and_an_error_restores_all(tiny_sd):
    unet = adapted(tiny_sd)
    beside = predict(unet)
    with adapter_disabled(unet):
        base = predict(unet)
        with folded(unet):
            assert torch.equal(predict(unet), base)
    with pytest.raises(KeyError), folded(unet):
        raise KeyError
    assert torch.equal(predict(unet), beside)


@pytest.mark.parametrize(("dtype", "mixed"), [(torch.bfloat16, False), (torch.float32, True)])
def test_half_precision_would_lose_small_updates_so_it_stays_beside(tiny_sd, dtype, mixed):
    unet = adapted(tiny_sd, dtype=dtype)
    weights = [layer.get_base_layer().weight for layer in adapted_modules(unet).values()]
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        before, beside = [weight.data_ptr() for weight in weights], predict(unet)
        with folded(unet):
            assert [weight.data_ptr() for weight in weights] == before
            assert torch.equal(predict(unet), beside)
