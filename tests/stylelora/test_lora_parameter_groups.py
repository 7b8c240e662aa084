"""Learning rates of their own, for any optimiser class."""

import functools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn

from stylelora.lora.inject import inject_lora
from stylelora.lora.parameter_groups import fused, optimizer_of
from stylelora.records import InputError
from tests.adapters import base_unet
from tests.counting import Operations

ADAMW = functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)


@pytest.fixture(scope="module")
def models(tiny_sd):
    first, second = base_unet(tiny_sd), base_unet(tiny_sd)
    for model in (first, second):
        inject_lora(model, 2, None, 0.0, ["to_q"], seed=0)
    return first, second


def rates(optimizer, model):
    """Learning rate of each trained parameter by its name."""
    of = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    return {name: of[id(one)] for name, one in model.named_parameters() if one.requires_grad}


def test_without_them_it_is_one_list_of_parameters(models):
    (group,) = optimizer_of(ADAMW, models[0]).param_groups
    trained = [one for one in models[0].parameters() if one.requires_grad]
    assert all(first is second for first, second in zip(group["params"], trained, strict=True))
    (group,) = optimizer_of(ADAMW, *models).param_groups
    assert len(group["params"]) == 2 * len(trained)


def test_groups_have_the_names_that_their_curves_show(models):
    found = optimizer_of(ADAMW, *models, lora_plus_ratio=16.0, text_encoder_rate=1e-4).param_groups
    assert [group["name"] for group in found] == ["unet_A", "unet_B", "text_encoder_A", "text_encoder_B"]
    found = optimizer_of(ADAMW, *models, text_encoder_rate=1e-4).param_groups
    assert [(group["name"], group["lr"]) for group in found] == [("unet", 1e-3), ("text_encoder", 1e-4)]


@pytest.mark.parametrize("make", [ADAMW, functools.partial(torch.optim.SGD, lr=1e-3)])
def test_lora_plus_is_pefts(models, make):
    ours = rates(optimizer_of(make, models[0], lora_plus_ratio=16.0), models[0])
    assert len(ours) == 64
    small = get_peft_model(nn.Sequential(nn.Linear(4, 4)), LoraConfig(r=2, target_modules=["0"]))
    theirs = rates(create_loraplus_optimizer(small, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0), small)
    assert {name.split(".")[-3]: rate for name, rate in theirs.items()} == {"lora_A": 1e-3, "lora_B": 1.6e-2}
    assert {(name.split(".")[-3], rate) for name, rate in ours.items()} == {("lora_A", 1e-3), ("lora_B", 1.6e-2)}


def test_the_text_encoder_has_its_own(models):
    optimizer = optimizer_of(ADAMW, *models, text_encoder_rate=5e-5)
    assert {*rates(optimizer, models[0]).values()} == {1e-3}
    assert {*rates(optimizer, models[1]).values()} == {5e-5}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    optimizer = optimizer_of(ADAMW, *models, lora_plus_ratio=2.0, text_encoder_rate=5e-5)
    assert [*map(round, [group["lr"] * 1e6 for group in optimizer.param_groups])] == [1000, 2000, 50, 100]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam])
def test_adam_updates_a_group_in_one_pass_as_its_loop_does(kind):
    drawn = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (64,), (3, 4, 1, 1)]
    ours, theirs = ([nn.Parameter(torch.full(shape, 0.3)) for shape in shapes] for _ in range(2))
    optimizers = fused(kind(ours, lr=1e-3, weight_decay=0.1)), kind(theirs, lr=1e-3, weight_decay=0.1, foreach=False)
    for _ in range(50):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = other.grad = torch.randn(one.shape, generator=drawn)
        for optimizer in optimizers:
            with Operations() as made:
                optimizer.step()
            if optimizer is optimizers[0]:
                assert sum(count for name, count in made.count.items() if name.startswith("_fused")) == 1
                assert not made.count.keys() & {"addcdiv_", "lerp_", "sqrt"}
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
        assert (one - 0.3).abs().max() > 1e-3


def test_who_says_how_or_cannot_is_left_alone(models):
    for make, expected in (
        (ADAMW, (None, True)),
        (functools.partial(ADAMW, foreach=False), (False, None)),
        (functools.partial(ADAMW, fused=False), (None, False)),
        (functools.partial(torch.optim.NAdam, lr=1e-3), (None, None)),
    ):
        for ratio in (None, 16.0):
            groups = optimizer_of(make, models[0], lora_plus_ratio=ratio).param_groups
            assert {(group["foreach"], group.get("fused")) for group in groups} == {expected}
    assert not hasattr(optimizer_of(ADAMW, models[0]), "_step_supports_amp_scaling"), "else gradients are not clipped"


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ratio_that_is_none_is_refused(models, ratio):
    with pytest.raises(InputError, match=r"lora_plus_ratio is .*; give a number above 0, such as 16, or null"):
        optimizer_of(ADAMW, models[0], lora_plus_ratio=ratio)


class Prodigy(torch.optim.SGD):
    """Like those that find their own rate, it keeps it in its groups."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=1.0)
        for group in self.param_groups:
            group["d"] = 1e-6


def test_an_optimiser_with_one_rate_for_all_is_refused(models):
    Prodigy([nn.Parameter(torch.zeros(1))])
    optimizer_of(Prodigy, *models)
    for options in ({"lora_plus_ratio": 4.0}, {"text_encoder_rate": 0.5}):
        with pytest.raises(InputError, match="Prodigy finds one learning rate for all weights itself"):
            optimizer_of(Prodigy, *models, **options)
