"""The moving average of an adapter's weights."""

import pytest
import torch

from stylelora.lora.average import Average


def test_it_is_the_average_of_what_it_took_in():
    one = torch.nn.Parameter(torch.zeros(3))
    average, expected = Average([one], 0.9), torch.zeros(3)
    for step in range(1, 30):
        one.data = torch.full((3,), float(step))
        average.update(step)
        average.update(step)  # between two steps of the optimiser nothing changes
        decay = min(0.9, step / (step + 9))  # diffusers counts from the step before
        decay = 0.0 if step == 1 else decay
        expected = decay * expected + (1 - decay) * step
    with average.shown():
        assert one.data == pytest.approx(expected)
        with average.shown(False):
            assert one.data.tolist() == [29.0] * 3
        assert one.data == pytest.approx(expected)
    assert one.data.tolist() == [29.0] * 3


def test_a_state_goes_on():
    one = torch.nn.Parameter(torch.zeros(3))
    first = Average([one], 0.5)
    for step in (1, 2, 3):
        one.data = torch.full((3,), float(step))
        first.update(step)
    second = Average([one], 0.5)
    second.load_state_dict(first.state_dict())
    one.data = torch.full((3,), 7.0)
    for each in (first, second):
        each.update(4)
    shown = []
    for each in (first, second):
        with each.shown():
            shown.append(one.data.clone())
    assert torch.equal(*shown)


def test_without_a_decay_nothing_happens():
    one = torch.nn.Parameter(torch.ones(3))
    average = Average([one], None)
    average.update(1)
    with average.shown():
        assert torch.equal(one.data, torch.ones(3))
    assert average.state_dict() is None
