"""Runs that torchrun or SLURM starts, on one machine or several, train what Lightning's own processes do."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from stylelora.runs.folder import adapter_file
from tests.launched import finished, free_port, one_machine, slurm, two_machines
from tests.runs import fit_words, run_cli

pytestmark = pytest.mark.slow
STEP = "stylelora.diffusion.objective.Objective.losses"
MORE = ["--data.init_args.prompts=[a cat, a dog, a boat]", "--model.optimizer.lr=1.0e-4"]


@pytest.fixture(scope="module")
def alone(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    """A run of one process with the pictures per step of two; what it encodes is what all runs need."""
    folder = tmp_path_factory.mktemp("launched")
    one_step = ["--trainer.max_steps=1", "--trainer.val_check_interval=200", "--trainer.check_val_every_n_epoch=null"]
    encoded = []
    for name, more in {"warm-up": one_step, "alone": []}.items():
        words = [*fit_words(tiny_sd, tiny_clip, pictures, folder / name), *MORE, "--data.batch_size=4", *more]
        status, said = run_cli(words)
        assert status == 0, said
        encoded.append(cached(folder))
    assert encoded[0] == encoded[1], "one step encodes all"
    return folder


def cached(folder):
    """What is encoded, and when."""
    return {file: file.stat().st_mtime_ns for file in (folder / "cache").rglob("*.safetensors")}


@pytest.mark.parametrize("launcher", ["torchrun", "torchrun on two machines", "srun on two machines"])
def test_all_train_the_same(alone, tiny_sd, tiny_clip, pictures, launcher):
    folder = alone / launcher.replace(" ", "_")
    words = [*fit_words(tiny_sd, tiny_clip, pictures, folder), *MORE, "--data.batch_size=2"]
    encoded = cached(alone)
    done = one_machine(words) if launcher == "torchrun" else two_machines(launcher.split()[0], words)
    assert all(code == 0 for code, _ in done), done
    assert encoded == cached(alone)
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], (result["slurm"] or {}).get("job")) == ("success", "17" if "srun" in launcher else None)
    for which in ("", "-last"):
        ours, theirs = (load_file(adapter_file(one, which)) for one in (folder, alone / "alone"))
        assert ours.keys() == theirs.keys()
        for name, weights in theirs.items():
            np.testing.assert_allclose(ours[name], weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [(4, 3), (3, 4)])
def test_a_signal_that_machines_hear_in_different_steps_ends_the_run_well(alone, tiny_sd, tiny_clip, pictures, steps):
    """The first process makes its step with the others, saves it, and would queue the job again."""
    folder, port = alone / f"stopped_{steps[0]}", free_port()
    words = [*fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=50), *MORE, "--data.batch_size=1"]
    words += ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]
    faults = [{"FAULT": json.dumps({"place": STEP, "call": call, "do": "SIGUSR1"})} for call in steps]
    told = [slurm(rank, port) | fault for rank, fault in enumerate(faults)]
    (first, said), (second, others) = finished([[sys.executable, "-m", "tests.faults.faulty", *words]] * 2, told)
    assert (first, json.loads((folder / "result.json").read_text())["status"]) == (138, "cancelled"), said
    assert f"step {steps[0]} is saved" in said and "job 17 could not be queued again" in said
    assert second != 0 and "could not be queued" not in others
    if steps[1] < steps[0]:  # it was asked, too
        assert second == 138 and "Traceback" not in others
