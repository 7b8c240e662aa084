"""An adapter knows the weights that it was trained on, whatever they are called."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from stylelora.base.load import load_unet
from stylelora.base.same_base import BASE_WEIGHTS, doubt_of_base, hash_of_weights


@pytest.fixture(scope="module")
def unet(tiny_sd):
    return load_unet(tiny_sd)


def test_the_hash_is_that_of_the_base_alone(unet):
    other = copy.deepcopy(unet)
    inject_adapter_in_model(LoraConfig(target_modules=["to_q", "to_out.0", "conv1"], r=2), other)
    assert any(".base_layer.bias" in name for name, _ in other.named_parameters())
    assert hash_of_weights(other) == hash_of_weights(unet) == hash_of_weights(copy.deepcopy(unet).bfloat16())


def test_other_weights_are_told_from_those_of_the_training(unet):
    notes = {"base": "models/sd", BASE_WEIGHTS: hash_of_weights(unet)}
    assert doubt_of_base("ink", notes, hash_of_weights(unet), "models/sd") is None
    other = copy.deepcopy(unet)
    with torch.no_grad():
        other.conv_out.bias[0] += 0.5
    said = doubt_of_base("ink", notes, hash_of_weights(other), "models/sd")
    assert said.startswith("ink was trained on other weights than those of models/sd (it notes ")
    assert notes[BASE_WEIGHTS] in said and hash_of_weights(other) in said


def test_a_file_of_another_program_says_nothing_but_one_of_the_first_mini_is_known(unet):
    assert doubt_of_base("ink", {"ss_sd_model_name": "sd"}, hash_of_weights(unet), "models/sd") is None
    assert "an earlier mini" in doubt_of_base("ink", {"base": "mini"}, hash_of_weights(unet), "mini")
