"""A base's own scheduler: a picture depends on its seed, not on its batch."""

import json
import shutil

import pytest
import torch

from stylelora.base.load import load_scheduler
from stylelora.diffusion.sample import initial_noise, walk
from stylelora.diffusion.schedulers import other_scheduler, own_scheduler
from stylelora.records import InputError


@pytest.fixture
def base_with(tiny_sd, tmp_path):
    def make(kind, **changes):
        shutil.copytree(tiny_sd / "scheduler", tmp_path / "scheduler")
        file = tmp_path / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": kind} | changes))
        return tmp_path

    return make


def drawn(scheduler, seeds):
    """Pictures of a UNet that predicts a tenth of what it sees."""
    start = initial_noise(seeds, (4, 8, 8))
    return walk(torch.nn.Identity(), scheduler, start, 4, lambda x, t, step: x / 10)


NOISY = ("DDPMScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler")


@pytest.mark.parametrize("kind", NOISY)
def test_one_that_draws_noise_is_refused_as_other_ones_are(base_with, tiny_sd, kind):
    base = base_with(kind)
    assert not torch.equal(drawn(load_scheduler(base), [0, 1])[1], drawn(load_scheduler(base), [1])[0])  # why
    with pytest.raises(InputError) as refused:
        own_scheduler(base, 4)
    assert str(refused.value) == (
        f"{kind}, the scheduler of {base / 'scheduler' / 'scheduler_config.json'}, draws noise of its own; write "
        "another there as _class_name, such as DDIMScheduler"
    )
    with pytest.raises(InputError, match=f"diffusers.{kind} draws noise of its own; give a deterministic one"):
        other_scheduler(f"diffusers.{kind}", load_scheduler(tiny_sd), 4)


def test_noise_that_an_option_turns_on_counts(base_with):
    base = base_with("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++")
    with pytest.raises(InputError, match="draws noise of its own"):
        own_scheduler(base, 4)


@pytest.mark.parametrize("kind", ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"])
def test_others_stay_and_disturb_no_draws(base_with, kind):
    base = base_with(kind)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    scheduler = own_scheduler(base, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(scheduler).__name__ == kind and scheduler.config == load_scheduler(base).config
    torch.testing.assert_close(drawn(scheduler, [0, 1])[1], drawn(scheduler, [1])[0], rtol=0, atol=0)


def test_one_that_cannot_sample_is_refused(base_with):
    with pytest.raises(InputError, match=r"has a FlowMatchEulerDiscreteScheduler, which belongs to newer models"):
        own_scheduler(base_with("FlowMatchEulerDiscreteScheduler"), 4)
