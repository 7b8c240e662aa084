"""Why blending and scoring are not left to the libraries.

Each test holds as long as the defect does. One that fails says what is mended: then look again at what we do instead.
"""

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, LoraModel, get_peft_model
from torch import nn

from stylelora.lora.convert import convert
from tests.adapters import base_unet
from tests.tiny_sd import predict

WEIGHTS = (0.6, 0.4)


def model(use_rslora=False):
    """A linear layer with two adapters moved away from their start."""
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=8, target_modules=["0"], use_rslora=use_rslora)
    peft = get_peft_model(nn.Sequential(nn.Linear(40, 30, bias=False)), config, adapter_name="ink")
    peft.add_adapter("oil", config)
    layer = peft.base_model.model[0]
    for factor in (layer.lora_A, layer.lora_B):
        for name in ("ink", "oil"):
            nn.init.normal_(factor[name].weight)
    return peft.requires_grad_(False), layer


def merged(peft, layer, kind, weights=WEIGHTS, **options):
    peft.add_weighted_adapter(["ink", "oil"], list(weights), "merged", combination_type=kind, **options)
    return layer.get_delta_weight("merged")


def plain_sum(layer):
    return sum(weight * layer.get_delta_weight(name) for weight, name in zip(WEIGHTS, ("ink", "oil"), strict=True))


def error(got, want):
    return float((got - want).norm() / want.norm())


def mended(who, what):
    return f"{who} mended {what}: say so in docs"


def test_linear_of_peft_is_no_weighted_sum():
    peft, layer = model()
    assert error(merged(peft, layer, "linear"), plain_sum(layer)) > 0.5, mended("PEFT", "'linear'")
    peft, layer = model()
    assert error(merged(peft, layer, "cat"), plain_sum(layer)) < 1e-5  # of this it is capable


def test_linear_of_peft_depends_on_the_factors_not_on_the_update():
    found = []
    for sign in (1, -1):
        peft, layer = model()
        layer.lora_A["ink"].weight.mul_(sign)
        layer.lora_B["ink"].weight.mul_(sign)  # the same update
        found.append(merged(peft, layer, "linear"))
    assert error(*found) > 0.5, mended("PEFT", "'linear', which now is a function of the updates")


def test_ties_of_peft_halves_an_adapter_merged_with_itself():
    """It takes the mean over the adapters that agree, of weights that add up to 1 already."""
    peft, layer = model()
    for factor in (layer.lora_A, layer.lora_B):
        factor["oil"].weight.copy_(factor["ink"].weight)
    half = layer.get_delta_weight("ink") / 2
    assert error(merged(peft, layer, "ties_svd", density=1.0), half) < 1e-4, mended(
        "PEFT", "the strength of 'ties_svd'"
    )


def test_ties_of_peft_shrinks_one_adapter_beside_another_of_weight_0():
    peft, layer = model()
    one = layer.get_delta_weight("ink")
    found = merged(peft, layer, "ties_svd", (1.0, 0.0), density=1.0, svd_rank=30)
    assert error(found, one) > 0.2, mended("PEFT", "'ties_svd' at a weight of 0")
    assert found.norm() < 0.9 * one.norm(), mended("PEFT", "the strength of 'ties_svd'")


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 0.0)])
def test_a_merged_adapter_of_rslora_is_too_strong_by_the_root_of_its_rank(weights):
    peft, layer = model(use_rslora=True)
    want = sum(w * layer.get_delta_weight(name) for w, name in zip(weights, ("ink", "oil"), strict=True))
    assert error(merged(peft, layer, "cat", weights), 4 * want) < 1e-5, mended("PEFT", "the scale of merged rsLoRA")


def test_merging_under_a_name_that_exists_does_nothing_and_says_nothing():
    peft, layer = model()
    before = merged(peft, layer, "cat", (1.0, 0.0)).clone()
    again = merged(peft, layer, "cat", (0.0, 1.0))
    assert torch.equal(again, before), mended("PEFT", "merging under a name that exists")


def test_a_scale_of_zero_sets_the_weights_of_adapters_to_one(tiny_sd, adapter_files, tmp_path):
    unet = base_unet(tiny_sd)
    for name, file in zip(("ink", "oil"), adapter_files, strict=True):
        convert(str(file), str(tmp_path / file.name), format="diffusers")
        unet.load_lora_adapter(str(tmp_path / file.name), prefix="unet", adapter_name=name)
    unet.set_adapters(["ink", "oil"], list(WEIGHTS))
    before = predict(unet)
    side = unet.config.sample_size
    with torch.no_grad():
        unet(torch.zeros(1, unet.config.in_channels, side, side), 1,
             torch.zeros(1, 77, unet.config.cross_attention_dim), cross_attention_kwargs={"scale": 0.0})  # fmt: skip
    after = predict(unet)
    unet.set_adapters(["ink", "oil"], [1.0, 1.0])
    assert not torch.allclose(before, after, atol=1e-3), mended("diffusers", "a scale of 0")
    assert torch.allclose(after, predict(unet), atol=1e-5)


def test_a_unet_of_diffusers_cannot_merge_its_adapters():
    assert hasattr(LoraModel, "add_weighted_adapter")  # only PEFT's own models have it
    said = mended("diffusers", "the lack of `add_weighted_adapter`")
    assert not hasattr(UNet2DConditionModel, "add_weighted_adapter"), said


def test_the_clip_score_of_torchmetrics_does_not_know_what_transformers_5_returns(tiny_clip):
    from torchmetrics.multimodal import CLIPScore
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    parts = CLIPImageProcessorPil.from_pretrained(tiny_clip), CLIPTokenizer.from_pretrained(tiny_clip)
    score = CLIPScore(lambda: (CLIPModel.from_pretrained(tiny_clip), CLIPProcessor(*parts)))
    pictures = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    try:
        score(pictures, ["a cat", "a boat"])
    except AttributeError as crash:
        assert "has no attribute 'norm'" in str(crash)
    else:
        pytest.fail(mended("torchmetrics", "CLIPScore with transformers 5"))
