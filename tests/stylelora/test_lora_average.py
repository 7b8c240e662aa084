"""The moving average of an adapter's weights."""

import pytest
import torch

from stylelora.lora.average import Average


def test_it_is_the_average_of_what_it_took_in():
    one = torch.nn.Parameter(torch.zeros(3))
    average, expected = Average([one], 0.9), torch.zeros(3)
    for step in range(1, 30):
        one.data = torch.full((3,), float(step))
        average.update()
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
        first.update()
    second = Average([one], 0.5)
    second.load_state_dict(first.state_dict())
    one.data = torch.full((3,), 7.0)
    for each in (first, second):
        each.update()
    shown = []
    for each in (first, second):
        with each.shown():
            shown.append(one.data.clone())
    assert torch.equal(*shown)


def test_without_a_decay_nothing_happens():
    one = torch.nn.Parameter(torch.ones(3))
    average = Average([one], None)
    average.update()
    with average.shown():
        assert torch.equal(one.data, torch.ones(3))
    assert average.state_dict() is None


def averaged(decay=0.9, values=(1.0, 2.0)):
    one = torch.nn.Parameter(torch.zeros(3))
    average = Average([one], decay)
    for value in values:
        one.data = torch.full((3,), value)
        average.update()
    return average


def test_a_resumed_run_has_its_own_decay():
    one = torch.nn.Parameter(torch.full((3,), 4.0))
    second = Average([one], 1e-6)
    second.load_state_dict(averaged().state_dict())
    second.update()
    with second.shown():
        assert one.data == pytest.approx(torch.full((3,), 4.0), abs=1e-4)


def test_before_the_first_step_the_parameters_are_shown():
    """As of a checkpoint without an average."""
    one = torch.nn.Parameter(torch.zeros(3))
    average = Average([one], 0.9)
    one.data = torch.full((3,), 4.0)
    with average.shown():
        assert one.data.tolist() == [4.0] * 3


def test_a_checkpoints_average_is_validated_without_the_option_but_not_trained_on(caplog):
    one = torch.nn.Parameter(torch.zeros(3))
    average, state = Average([one], None), averaged().state_dict()
    average.load_state_dict(state)
    with average.shown():
        assert torch.equal(one.data, state["shadow_params"][0])
    average.follow(torch.optim.SGD([one], lr=1.0))
    assert "ends here" in caplog.text
    with average.shown():
        assert one.data.tolist() == [0.0] * 3
    assert average.state_dict() is None
