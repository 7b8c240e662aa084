"""What a study leaves when it is stopped or killed: no process, and runs that go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import cli
from stylelora.studies.plan import STUDIES
from stylelora.studies.reading import read_study
from stylelora.studies.study import trainings
from stylelora.studies.work import GOES_ON, state_of
from tests.faults.test_signals_devices import alive
from tests.runs import ROOT, fit_words
from tests.small_study import write_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("heard")]


def wait_for(found, seconds=240):
    """Wait until a function returns something true."""
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_study_stops_its_runs_and_says_what_is_unfinished(
    tiny_sd, tiny_clip, pictures, tmp_path, capfd, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    file = write_study(tiny_sd, tiny_clip, pictures, tmp_path, epochs=10**6)
    steps = trainings(read_study(file))

    def stop():
        wait_for(lambda: all((step.folder / "clip_score.jsonl").is_file() for step in steps))
        os.kill(os.getpid(), getattr(signal, name))

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(SystemExit) as end:
        cli.main(["study", str(file), "--workers=2"])
    said = capfd.readouterr().err
    assert end.value.code == (143 if name == "SIGTERM" else 130)
    assert "not finished: fit of rank 2, seed 0; fit of rank 4, seed 0; test of rank 2, seed 0; test of" in said
    assert "run the same command again to continue" in said
    assert not alive(tmp_path)
    assert [step.folder for step in steps] == [STUDIES / "ranks" / f"rank_{rank}_seed_0" for rank in (2, 4)]
    for step in steps:
        name = step.folder.name
        assert json.loads((step.folder / "result.json").read_text())["status"] == "cancelled"
        assert (step.folder / f"{name}-last.safetensors").is_file()
        assert (step.folder / "checkpoints" / "last.ckpt").is_file()
        assert state_of(step) == GOES_ON


def test_a_killed_study_takes_its_runs_with_it(tiny_sd, tiny_clip, pictures, tmp_path):
    folder = tmp_path / "run"
    words = fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=10**6)
    program = f"from stylelora.runs.start import start; start(*{words!r})"
    one = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for((folder / "clip_score.jsonl").is_file)
    one.kill()
    one.wait()
    wait_for(lambda: not alive(folder), seconds=30)
    assert json.loads((folder / "result.json").read_text())["status"] == "cancelled"
