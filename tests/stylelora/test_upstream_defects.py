"""Why blending is not left to the libraries. A test that fails here tells that a defect is mended: then look again."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.adapters import base_unet
from tests.tiny_sd import predict

WEIGHTS = (0.6, 0.4)


def model(use_rslora=False):
    """A linear layer with two adapters moved away from their start, in double precision."""
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=8, target_modules=["0"], use_rslora=use_rslora)
    peft = get_peft_model(nn.Sequential(nn.Linear(40, 30, bias=False)), config, adapter_name="a")
    peft.add_adapter("b", config)
    layer = peft.base_model.model[0]
    for name in "ab":
        nn.init.normal_(layer.lora_A[name].weight)
        nn.init.normal_(layer.lora_B[name].weight)
    return peft, layer


def error(peft, layer, kind):
    want = sum(weight * layer.get_delta_weight(name) for weight, name in zip(WEIGHTS, "ab", strict=True))
    peft.add_weighted_adapter(["a", "b"], list(WEIGHTS), "merged", combination_type=kind)
    return float((layer.get_delta_weight("merged") - want).norm() / want.norm())


def test_linear_of_peft_is_no_weighted_sum():
    assert error(*model(), "linear") > 0.5
    assert error(*model(), "cat") < 1e-5


def test_linear_of_peft_depends_on_the_factors_not_on_the_update():
    merged = []
    for sign in (1, -1):
        peft, layer = model()
        with torch.no_grad():
            layer.lora_A["a"].weight.mul_(sign)
            layer.lora_B["a"].weight.mul_(sign)  # the same update
        peft.add_weighted_adapter(["a", "b"], list(WEIGHTS), "merged", combination_type="linear")
        merged.append(layer.get_delta_weight("merged"))
    assert (merged[0] - merged[1]).norm() > 0.5 * merged[0].norm()


def test_a_merged_adapter_of_rslora_is_too_strong():
    assert error(*model(use_rslora=True), "cat") > 1


def test_merging_under_a_name_that_exists_does_nothing_and_says_nothing():
    peft, layer = model()
    peft.add_weighted_adapter(["a", "b"], [1.0, 0.0], "merged", combination_type="cat")
    before = layer.get_delta_weight("merged").clone()
    peft.add_weighted_adapter(["a", "b"], [0.0, 1.0], "merged", combination_type="cat")
    assert torch.equal(layer.get_delta_weight("merged"), before)


def test_a_scale_of_zero_sets_the_weights_of_adapters_to_one(tiny_sd, adapter_files):
    unet = base_unet(tiny_sd)
    for name, file in zip("ab", adapter_files, strict=True):
        unet.load_lora_adapter(str(file), prefix="unet", adapter_name=name)
    unet.set_adapters(["a", "b"], list(WEIGHTS))
    before = predict(unet)
    side = unet.config.sample_size
    with torch.no_grad():
        unet(torch.zeros(1, unet.config.in_channels, side, side), 1,
             torch.zeros(1, 77, unet.config.cross_attention_dim), cross_attention_kwargs={"scale": 0.0})  # fmt: skip
    after = predict(unet)
    unet.set_adapters(["a", "b"], [1.0, 1.0])
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(after, predict(unet), atol=1e-5)
    with pytest.raises(AttributeError):
        unet.add_weighted_adapter  # noqa: B018  only PEFT's own models have it
