"""Learning rates, against diffusers' schedules and formulas written out here."""

import functools
import math

import pytest
import torch
from diffusers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from stylelora.records import InputError
from stylelora.schedules import Schedule, check_optimizer, settings_of, with_schedule

TOTAL = 40


def optimizer(lr=0.5):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(schedule, steps=TOTAL):
    seen = []
    for _ in range(steps):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("warmup", [0, 1, 8])
@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"shape": "constant"}, lambda one, warmup: get_constant_schedule_with_warmup(one, warmup)),
        ({"shape": "linear"}, lambda one, warmup: get_linear_schedule_with_warmup(one, warmup, TOTAL)),
        ({"shape": "cosine"}, lambda one, warmup: get_cosine_schedule_with_warmup(one, warmup, TOTAL)),
        (
            {"shape": "cosine", "cycles": 3},
            lambda one, warmup: get_cosine_with_hard_restarts_schedule_with_warmup(one, warmup, TOTAL, 3),
        ),
    ],
)
def test_the_rates_are_those_of_diffusers(options, theirs, warmup):
    ours = rates(Schedule(optimizer(), warmup=warmup, total_steps=TOTAL, **options))
    assert ours == pytest.approx(rates(theirs(optimizer(), warmup)), abs=1e-9)


def test_a_share_of_warm_up_is_of_all_steps():
    assert rates(Schedule(optimizer(), "cosine", 0.25, total_steps=TOTAL)) == rates(
        Schedule(optimizer(), "cosine", 10, total_steps=TOTAL)
    )


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_decay_is_the_final_share_that_falls(shape):
    seen = rates(Schedule(optimizer(), shape, decay=0.25, total_steps=TOTAL))
    assert seen[:31] == [0.5] * 31
    left = [(TOTAL - step) / 10 for step in range(30, TOTAL)]
    assert seen[30:] == pytest.approx(
        [0.5 * (one if shape == "linear" else (1 - math.cos(math.pi * one)) / 2) for one in left]
    )


def test_schedules_that_ask_for_the_number_of_steps_get_it():
    one_cycle = functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=None)
    made = with_schedule(optimizer(), one_cycle, 17)
    assert made["lr_scheduler"]["scheduler"].total_steps == 17
    assert made["lr_scheduler"]["interval"] == "step"
    fixed = functools.partial(Schedule, shape="linear", total_steps=5)
    assert with_schedule(optimizer(), fixed, 17)["lr_scheduler"]["scheduler"].total == 5
    assert isinstance(with_schedule(optimizer(), None, 17), torch.optim.SGD)


def test_a_state_is_plain_and_goes_on_with_the_new_length():
    first = Schedule(optimizer(), "linear", total_steps=TOTAL)
    rates(first, 10)
    state = first.state_dict()
    assert all(isinstance(value, int | float | bool | str | list | None) for value in state.values())
    longer = Schedule(optimizer(), "linear", total_steps=2 * TOTAL)
    longer.load_state_dict(state)
    longer.optimizer.step()
    longer.step()
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * (1 - 11 / 80))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup": -1}, "give a warmup below 1"),
        ({"warmup": math.nan}, "give a warmup below 1"),
        ({"warmup": 1.5}, "a whole number of steps"),
        ({"shape": "linear", "warmup": 40}, "only 40 steps"),
        ({"decay": 0}, "give decay a share"),
        ({"shape": "linear", "cycles": 2}, "only cosine"),
        ({"shape": "cosine", "cycles": 0}, "only cosine"),
        ({"shape": "cosine", "total_steps": None}, "no known length"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        Schedule(optimizer(), **{"total_steps": TOTAL, **options})


def test_an_optimiser_is_tried_before_the_run():
    adamw = functools.partial(torch.optim.AdamW, lr=1e-3)
    check_optimizer(adamw, functools.partial(Schedule, shape="cosine"))
    for lr in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"model\.optimizer"):
            check_optimizer(functools.partial(torch.optim.AdamW, lr=lr), None)
    with pytest.raises(InputError, match=r"model\.optimizer torch\.optim\.adamw\.AdamW cannot be used"):
        check_optimizer(functools.partial(torch.optim.AdamW, lr=1e-3, betas=(2, 2)), None)
    with pytest.raises(InputError, match=r"model\.lr_scheduler"):
        check_optimizer(adamw, functools.partial(torch.optim.lr_scheduler.StepLR))


def test_settings_are_plain_values():
    make = functools.partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.99))
    assert settings_of(make) == {
        "class_path": "torch.optim.adamw.AdamW",
        "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]},
    }
    assert settings_of(None) is None


def test_what_a_config_names_is_known_by_its_class():
    """jsonargparse wraps the class; the number of steps has to reach it all the same."""
    from jsonargparse import ArgumentParser
    from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--lr_scheduler", type=LRSchedulerCallable)
    parser.add_argument("--optimizer", type=OptimizerCallable)
    words = ["--lr_scheduler=stylelora.schedules.Schedule", "--lr_scheduler.shape=cosine"]
    made = parser.instantiate(parser.parse_args([*words, "--optimizer=torch.optim.SGD", "--optimizer.lr=0.5"]))
    sgd = made.optimizer([torch.nn.Parameter(torch.zeros(1))])
    schedule = with_schedule(sgd, made.lr_scheduler, 17)["lr_scheduler"]["scheduler"]
    assert (schedule.total, schedule.shape) == (17, "cosine")
    assert settings_of(made.optimizer)["class_path"] == "torch.optim.sgd.SGD"
    assert settings_of(made.lr_scheduler)["init_args"]["shape"] == "cosine"
