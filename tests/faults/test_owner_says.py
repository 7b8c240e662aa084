"""What is said of folders that are in use, or that no run can go on in."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from stylelora.runs.lock import LOCK, OWNER
from tests.runs import ROOT, fit_words, one_sentence, run_cli


@pytest.fixture
def run(tmp_path):
    """What a run leaves that was killed early."""
    folder = tmp_path / "there" / "run"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 0")
    return folder


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--resume={there}/none"], "none is no folder of a run"),
        (["--resume={there}"], "has no config.yaml, so there is no run to resume"),
        (["--resume={run}"], "has no checkpoint yet, for the run ended before its first validation; start it again"),
        (["--resume"], "--resume needs a folder"),
        (["--resume={run}", "--ckpt_path={run}/config.yaml"], "leave out --ckpt_path"),
        (["--resume={run}", "--trainer.default_root_dir", "y"], "leave out --trainer.default_root_dir"),
        (["--config=configs/quickstart.yaml", "--resume_allow=all", "--trainer.default_root_dir={there}/new"],
         "--resume_allow names settings that may differ from a checkpoint's; give --resume, too"),
    ],
)  # fmt: skip
def test_what_cannot_be_resumed_is_said(given, told, run, monkeypatch):
    monkeypatch.chdir(ROOT)
    status, said = run_cli(["fit", *(word.format(run=run, there=run.parent) for word in given)])
    one_sentence(status, said)
    assert told in said


def test_resume_belongs_to_fit(run):
    status, said = run_cli(["validate", f"--resume={run}"])
    one_sentence(status, said)
    assert "--resume is an option of fit" in said


@pytest.mark.slow
def test_two_runs_in_one_folder_and_one_that_is_killed(tiny_sd, tiny_clip, pictures, tmp_path):
    folder = tmp_path / "runs" / "x"
    command = [sys.executable, "cli.py", *fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=1000)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (folder / "checkpoints" / "last.ckpt").is_file(), first)
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 1
        said = second.stderr.splitlines()[-1]
        assert re.match(rf"error: {folder} belongs to .* \(process {first.pid} on .*, since 20", said)
        assert "Traceback" not in second.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert {LOCK, OWNER} <= {path.name for path in folder.iterdir()}
    epochs = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 2
    assert run_cli(["fit", f"--resume={folder}", f"--trainer.max_epochs={epochs}"])[0] == 0
    assert json.loads((folder / "result.json").read_text())["status"] == "success"
    assert not {LOCK, OWNER} & {path.name for path in folder.iterdir()}
    assert not folder.with_name("x.1").exists()  # it was not finished: no copy


def until(done, process):
    for _ in range(1200):
        if done():
            return
        assert process.poll() is None, "ended too early"
        time.sleep(0.25)
    raise AssertionError("nothing happened")
