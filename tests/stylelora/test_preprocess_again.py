"""The same command again: after a change, after a kill, beside another run."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stylelora.data.scan import scan_folder
from stylelora.preprocess.preprocess import preprocess
from stylelora.preprocess.training_set import locked
from stylelora.records import InputError
from tests.raw import files, noise, run
from tests.runs import ROOT


def test_the_same_again_changes_nothing_and_works_little(raw, monkeypatch):
    first = files(run(raw))
    monkeypatch.setattr("stylelora.preprocess.normalise.read_picture", lambda *_: pytest.fail("read again"))
    assert files(run(raw)) == first
    monkeypatch.undo()
    noise(77).save(raw / "sub" / "0.png")
    (raw / "sub" / "5.png").unlink()
    (raw / "sub" / "5.txt").unlink()
    again = files(run(raw))
    same = {name[4] for name in again if name.endswith(".png") and again[name] == first[name]}
    assert (same, len(scan_folder(raw.parent / "data"))) == ({"1", "2", "3", "4"}, 5)


MOMENTS = [0.6, *(pytest.param(other, marks=pytest.mark.slow) for other in (0.0, 0.3, 0.9))]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_same_command_gives_the_same(tmp_path, moment):
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(60):
        noise(i, (600, 500)).save(raw / f"thing {i}.png")
    options = {"style": "zebra", "trigger": "zqx", "resolution": 64, "captions": ["filename"], "strict": False}
    preprocess(str(raw), output=str(tmp_path / "whole"), workers=1, **options)
    call = {"source": str(raw), "output": str(tmp_path / "data"), "workers": 1, **options}
    code = f"from stylelora.preprocess.preprocess import preprocess; preprocess(**{call!r})"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **quiet)
    partial = tmp_path / ".data.partial"
    while process.poll() is None and len(list(partial.glob("*.png")) if partial.exists() else []) < 60 * moment:
        time.sleep(0.005)
    time.sleep(random.Random(moment).random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    preprocess(**call)
    assert files(tmp_path / "data") == files(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "raw", "whole"]


@pytest.mark.parametrize("content", ["", '{"population": 5}', '{"files": []}', '{"settings": {'])
def test_an_output_that_is_not_ours_is_left_alone(raw, content):
    (raw.parent / "data").mkdir()
    (raw.parent / "data" / "letter.doc").write_text("mine")
    (raw.parent / "data" / "census.json").write_text(content)
    with pytest.raises(InputError, match="did not write"):
        run(raw)
    assert sorted(os.listdir(raw.parent / "data")) == ["census.json", "letter.doc"]
    with pytest.raises(InputError, match="is inside"):
        preprocess(str(raw), "zebra", "zqx", output=str(Path(raw, "out")))
    (raw.parent / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        preprocess(str(raw), "zebra", "zqx", output=str(raw.parent / "file"))


def test_what_was_changed_by_hand_is_kept(raw, capsys):
    target = run(raw)
    caption = next(target.glob("sub_0*.txt"))
    caption.write_text("zqx, corrected by hand")
    run(raw)
    assert "changed by hand" in capsys.readouterr().out
    assert (raw.parent / "data.1" / caption.name).read_text() == "zqx, corrected by hand"
    assert caption.read_text() != "zqx, corrected by hand"
    run(raw)
    assert not (raw.parent / "data.2").exists()


def test_a_link_stays_one(raw):
    (raw.parent / "big disk").mkdir()
    (raw.parent / "data").symlink_to(raw.parent / "big disk")
    for _ in range(2):
        assert len(scan_folder(run(raw))) == 6
    assert (raw.parent / "data").is_symlink()


def test_two_runs_do_not_mix(raw):
    with locked(raw.parent / ".data.partial"), pytest.raises(InputError, match="another run is writing"):
        run(raw)
    assert len(scan_folder(run(raw))) == 6


def die_at(step, at):
    """Let this process be killed at the n-th call of a function of os, or else of a method of Path."""
    place = os if step == "replace" else Path
    calls, real = itertools.count(), getattr(place, step)

    def dying(*args, **kwargs):
        if next(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(place, step, dying)


@pytest.mark.parametrize("death", [("replace", 3), ("replace", 9), ("replace", 14), ("rename", 0)])
def test_killed_while_the_set_is_put_together(raw, death):
    """A child dies at the n-th call of a step; after the same command again all is as without."""
    want = files(run(raw))
    shutil.rmtree(raw.parent / "data")
    for earlier in (False, True):
        if (child := os.fork()) == 0:
            die_at(*death)
            run(raw)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        if earlier:
            kept = [folder for folder in ("data", ".data.old") if (raw.parent / folder).exists()]
            assert files(raw.parent / kept[0]) == want
        assert files(run(raw)) == want
        assert not [path for path in raw.parent.iterdir() if path.name.startswith(".")]
