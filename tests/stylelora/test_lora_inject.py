"""The adapter goes where it is told, starts as nothing, and can be switched off without a trace."""

import copy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from stylelora.lora.inject import ADAPTER, adapter_disabled, adapter_parameters, inject_lora
from stylelora.records import InputError
from tests.tiny_sd import SD15_UNET, disturb, predict

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
SD15_NAMES = (Path(__file__).parents[1] / "data" / "sd15_attention_projections.txt").read_text().split()


@pytest.fixture
def unet(tiny_sd):
    return UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval()


def test_frozen_names_are_those_of_stable_diffusion():
    with torch.device("meta"):
        sd15 = UNet2DConditionModel(**SD15_UNET)
    assert sum(parameter.numel() for parameter in sd15.parameters()) == 859_520_964
    names = [name for name, _ in sd15.named_modules() if name.endswith(tuple(ATTENTION))]
    assert sorted(names) == sorted(SD15_NAMES)
    assert len(set(SD15_NAMES)) == 128


def test_adapts_exactly_the_attention_projections(unet):
    assert sorted(inject_lora(unet, 4, 8.0, 0.0, ATTENTION, seed=0)) == sorted(SD15_NAMES)
    adapted = [name.removesuffix(".lora_A") for name, _ in unet.named_modules() if name.endswith(".lora_A")]
    assert sorted(adapted) == sorted(SD15_NAMES)


@pytest.mark.parametrize(
    ("target_modules", "count"),
    [(["attn2.to_k"], 16), ([SD15_NAMES[5]], 1), (["conv_in", "to_q"], 33), (["to_q"] * 2, 32)],
)
def test_targets_match_whole_parts_of_names(unet, target_modules, count):
    assert len(inject_lora(unet, 2, 2.0, 0.0, target_modules, seed=0)) == count
    assert sum(name.endswith(".lora_A") for name, _ in unet.named_modules()) == count


@pytest.mark.parametrize("target_modules", [["to_q", "q_proj"], ["q_proj"], ["to_q", "o_q"]])
def test_a_target_that_matches_nothing_is_refused(unet, target_modules):
    with pytest.raises(
        InputError, match=rf"matches {target_modules[-1]}; available: .*\bto_k, to_out\.0, to_q, to_v\b"
    ):
        inject_lora(unet, 4, 4.0, 0.0, target_modules, seed=0)
    assert not hasattr(unet, "peft_config")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be a number above 0"),
        ({"alpha": float("nan")}, "alpha must be a number above 0"),
        ({"dropout": 1.0}, "lora_dropout is .*; give a share from 0 to below 1"),
        ({"dropout": -0.1}, "lora_dropout is .*; give a share from 0 to below 1"),
        ({"target_modules": []}, "no LoRA targets were given"),
    ],
)
def test_numbers_out_of_range_are_refused(unet, change, sentence):
    with pytest.raises(InputError, match=sentence):
        inject_lora(
            unet, **({"rank": 4, "alpha": 4.0, "dropout": 0.0, "target_modules": ATTENTION, "seed": 0} | change)
        )


def test_a_second_adapter_is_refused(unet):
    inject_lora(unet, 2, 2.0, 0.0, ["to_q"], seed=0)
    with pytest.raises(ValueError, match="already carries an adapter: style"):
        inject_lora(unet, 2, 2.0, 0.0, ["to_k"], seed=0)


def test_only_the_adapter_is_trainable(unet):
    inject_lora(unet, 4, 8.0, 0.0, ATTENTION, seed=0)
    trainable = [name for name, parameter in unet.named_parameters() if parameter.requires_grad]
    assert len(trainable) == len(adapter_parameters(unet)) == 256
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)


def test_starts_as_the_base_and_the_guard_sees_a_change(unet):
    before = predict(unet)
    inject_lora(unet, 4, 8.0, 0.0, ATTENTION, seed=0)
    assert torch.equal(predict(unet), before)
    disturb(unet)
    assert not torch.allclose(predict(unet), before, atol=1e-3)


def test_dropout_follows_the_mode_of_the_unet(unet):
    inject_lora(unet, 4, 8.0, 0.5, ATTENTION, seed=0)
    disturb(unet)
    assert torch.equal(predict(unet), predict(unet))
    unet.train()
    assert not torch.equal(predict(unet), predict(unet))


def test_start_depends_on_the_seed_alone(unet):
    def start(dtype, seed, noise):
        model = copy.deepcopy(unet).to(dtype)
        torch.manual_seed(noise)
        inject_lora(model, 4, 8.0, 0.0, ATTENTION, seed)
        assert {parameter.dtype for parameter in adapter_parameters(model)} == {torch.float32}
        assert predict(model).dtype == dtype
        return torch.cat([parameter.flatten() for parameter in adapter_parameters(model)])

    first = start(torch.float32, seed=3, noise=0)
    assert torch.equal(start(torch.float32, seed=3, noise=99), first)
    assert torch.equal(start(torch.bfloat16, seed=3, noise=0), first)
    assert not torch.equal(start(torch.float32, seed=4, noise=0), first)


def test_global_random_state_is_untouched(unet):
    before = torch.get_rng_state()
    inject_lora(unet, 4, 8.0, 0.0, ATTENTION, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("frozen", [False, True])
def test_disabled_adapter_is_the_base_bit_for_bit(unet, frozen):
    base = predict(unet)
    inject_lora(unet, 4, 8.0, 0.0, ATTENTION, seed=0)
    disturb(unet)
    unet.requires_grad_(not frozen)  # on purpose another setting than PEFT's own
    adapted = predict(unet)

    def settings():
        layer = unet.get_submodule(SD15_NAMES[0])
        return [p.requires_grad for p in unet.parameters()], list(layer.active_adapters), layer.disable_adapters

    before = settings()
    with adapter_disabled(unet):
        assert torch.equal(predict(unet), base)
        with adapter_disabled(unet):
            pass
        assert torch.equal(predict(unet), base), "the inner block must not switch the adapter on"
    assert settings() == before
    assert torch.equal(predict(unet), adapted)

    with pytest.raises(KeyError), adapter_disabled(unet):
        raise KeyError
    assert settings() == before
    assert before[1:] == ([ADAPTER], False)
    assert torch.equal(predict(unet), adapted)


def test_disabling_without_an_adapter_changes_nothing(unet):
    base = predict(unet)
    with adapter_disabled(unet):
        assert torch.equal(predict(unet), base)
