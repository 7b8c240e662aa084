import os

import pytest
from filelock import FileLock

from stylelora.desk.find_runs import inside, is_training, run_of, trainings
from stylelora.records import InputError


@pytest.fixture
def runs(tmp_path):
    for name, time in (("train/mini/ink", 300), ("train/mini/oil", 100), ("ink.1", 200)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "clip_score.jsonl").touch()
        os.utime(folder / "clip_score.jsonl", (time, time))
    test = tmp_path / "runs" / "evaluate" / "mini"
    (test / "pictures").mkdir(parents=True)
    (test / "result.json").write_text("{}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "clip_score.jsonl").touch()
    os.symlink(outside, tmp_path / "runs" / "link")
    return tmp_path / "runs"


def test_trainings_are_found_the_newest_first_and_nothing_else(runs):
    assert trainings(runs) == ["train/mini/ink", "ink.1", "train/mini/oil"]
    assert trainings(runs / "nowhere") == []


def test_a_run_that_writes_again_comes_first(runs):
    (runs / "train/mini/oil" / "result.json").write_text("{}")
    assert trainings(runs)[0] == "train/mini/oil"


@pytest.mark.parametrize("name", ["../outside", "link", "/etc", "train/../../outside", "a\0b", "evaluate/mini", "new"])
def test_nothing_outside_and_nothing_else_can_be_named(runs, name):
    assert run_of(runs, "ink.1") == runs / "ink.1"
    with pytest.raises(InputError):
        run_of(runs, name)


def test_the_folder_itself_may_be_a_link(runs, tmp_path):
    os.symlink(runs, tmp_path / "elsewhere")
    assert trainings(tmp_path / "elsewhere") == trainings(runs)
    assert run_of(tmp_path / "elsewhere", "ink.1").is_dir()
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    assert not inside(runs, tmp_path / "loop")


def test_a_training_is_going_on_while_somebody_owns_its_folder(runs):
    folder = runs / "ink.1"
    assert not is_training(folder)
    with FileLock(folder / ".lock"):
        assert is_training(folder)
    (folder / ".lock").touch()  # left by a run that was killed
    assert not is_training(folder)
