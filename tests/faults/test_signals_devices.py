"""A run with two devices ends within half a minute when one of them is lost or stopped, and says so."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from stylelora.runs.folder import adapter_file
from tests.runs import ROOT, fit_words

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("heard")]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
STEP = "stylelora.diffusion.objective.Objective.losses"


def run(words, **fault):
    """Return exit code, what was said, and the seconds from the fault to the end."""
    at = next(word for word in words if "default_root_dir" in word).partition("=")[2] + ".at"
    environment = os.environ | {"FAULT": json.dumps(fault | {"at": at}), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.faults.faulty", *words]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400)
    return done.returncode, done.stderr, time.time() - os.stat(at).st_mtime


@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize(
    ("do", "place", "code", "status"),
    [
        ("SIGTERM", STEP, 143, "cancelled"),
        ("SIGKILL", STEP, None, None),
        ("raise", STEP, 1, "failed"),
        ("SIGTERM", "stylelora.diffusion.samples.Sampler.draw", 143, "cancelled"),
        ("SIGKILL", "stylelora.data.dataset.StyleDataset.share", None, None),
    ],
)
def test_a_lost_device_ends_the_run(tiny_sd, tiny_clip, pictures, tmp_path, device, do, place, code, status):
    folder = tmp_path / "run"
    words = [*fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=50), *TWO, "--data.batch_size=1"]
    found, said, seconds = run(words, device=device, do=do, place=place, call=3 if place == STEP else 1)
    record = json.loads((folder / "result.json").read_text())
    assert seconds < 30
    if do == "SIGKILL":  # of the first one nothing more can be said
        code, status = (-9, "running") if device == 0 else (1, "failed")
    assert (found, record["status"]) == (code, status), said
    if do == "SIGKILL" and device == 1:
        assert "error: the process of device 1 was killed by SIGKILL, maybe for want of memory" in said
        assert "device 1 was killed by SIGKILL" in record["error"]
    if do != "raise":
        assert "Traceback" not in said
    if do == "SIGTERM":
        state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["global_step"] == (3 if place == STEP else 5)
        assert adapter_file(folder, "-last").is_file()
    assert not alive(folder), "a process is left"


def alive(folder):
    lines = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if str(folder) in line]
