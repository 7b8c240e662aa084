"""A blend is computed once, within a limit of memory."""

import dataclasses

import pytest
import torch

from stylelora.diffusion import blends as blends_module
from stylelora.diffusion.conditions import Blends, Condition
from stylelora.lora.factors import Factors
from stylelora.lora.mix import BlendOptions
from stylelora.lora.read import Adapter


@pytest.fixture
def pair():
    layers = {"conv_in": Factors(torch.ones(4, 2), torch.ones(2, 6))}
    return [Adapter(name, layers, {"conv_in": (6,)}, "", {}) for name in ("ink", "oil")]


@pytest.fixture
def calls(monkeypatch):
    made, original = [], blends_module.blend
    monkeypatch.setattr(blends_module, "blend", lambda *words: made.append(words[1:]) or original(*words))
    return made


FIRST = Condition("sum", (0.6, 0.4), 3, 4.0)


def test_a_blend_is_computed_once_for_conditions_that_share_it(pair, calls):
    blends = Blends(pair)
    first = blends.updates(FIRST)
    same = [
        {"trigger": False},
        {"guidance_scale": 1.0},
        {"num_inference_steps": 9},
        {"weights": (0.3, 0.2), "strength": 2.0},
    ]
    for change in same:
        assert blends.updates(dataclasses.replace(FIRST, **change)) is first
    assert len(calls) == 1
    others = [{"method": "ties"}, {"weights": (0.4, 0.6)}, {"strength": 0.5}, {"options": BlendOptions(density=0.1)}]
    for change in others:
        blends.updates(dataclasses.replace(FIRST, **change))
    assert len(calls) == 1 + len(others)
    assert blends.updates(dataclasses.replace(FIRST, weights=(0.0, 0.0))) == {}


def test_blends_beyond_the_limit_are_computed_again(pair, calls):
    size = 4 * (4 * 4 + 4 * 6)  # the sum has the rank 2 + 2
    blends, small = Blends(pair, limit=size), dataclasses.replace(FIRST, weights=(0.5, 0.5))
    for _ in range(2):
        blends.updates(FIRST)
        blends.updates(small)
    assert [weights for weights, *_ in calls] == [(0.6, 0.4), (0.5, 0.5), (0.5, 0.5)]
