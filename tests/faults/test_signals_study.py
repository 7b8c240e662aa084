"""What a study leaves when it is stopped or killed: no process, and runs that go on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

import cli
from stylelora.runs.folder import adapter_file
from stylelora.studies import study
from tests.faults.test_signals_devices import alive
from tests.runs import ROOT, fit_words

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("heard")]


def wait_for(found, seconds=240):
    """Wait until a function returns something true."""
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until
        time.sleep(0.2)


def settings_of(words):
    """The config that a command line amounts to."""
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    for word in words:
        option, _, value = word.removeprefix("--").partition("=")
        if "." in option and "default_root_dir" not in option:
            section, _, name = option.partition(".")
            place = config.setdefault(section, {})
            place = place.setdefault("init_args", {}) if section in ("model", "data") else place
            place[name] = yaml.safe_load(value)
    return config


@pytest.fixture
def configs(tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch):
    """Configs of a study of two trainings that take for ever."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(study, "ROOT", tmp_path)
    (tmp_path / "configs" / "train" / "mini").mkdir(parents=True)
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "runs" / "a", epochs=10**6)
    for name in ("a", "b"):
        file = tmp_path / "configs" / "train" / "mini" / f"{name}.yaml"
        file.write_text(yaml.safe_dump(settings_of(words)))
    return tmp_path / "configs" / "train" / "mini"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_study_stops_its_runs_and_says_what_is_unfinished(configs, tmp_path, capfd, name):
    folders = [tmp_path / "runs" / "train" / "mini" / one for one in ("a", "b")]

    def stop():
        wait_for(lambda: all((folder / "clip_score.jsonl").is_file() for folder in folders))
        os.kill(os.getpid(), getattr(signal, name))

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "--question=styles"])
    said = capfd.readouterr().err
    assert end.value.code == (143 if name == "SIGTERM" else 130)
    assert "not finished: runs/train/mini/a, runs/train/mini/b" in said
    assert "run the same command again to continue" in said
    assert not alive(tmp_path)
    for folder in folders:
        assert json.loads((folder / "result.json").read_text())["status"] == "cancelled"
        assert adapter_file(folder, "-last").is_file() and (folder / "checkpoints" / "last.ckpt").is_file()
        assert study.goes_on(configs / f"{folder.name}.yaml", folder)


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
