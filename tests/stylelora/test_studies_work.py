"""Steps of a study: which are finished, and what is done about the others."""

import contextlib
import copy
import json
import os
from hashlib import sha256

import pytest
import yaml

from stylelora.runs.lock import owned
from stylelora.studies import work
from stylelora.studies.work import FINISHED, GOES_ON, NEW, Step, state_of
from tests.runs import ROOT

SETTINGS = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())


@pytest.fixture
def step(tmp_path):
    (tmp_path / "run").mkdir()
    return Step("fit", "rank 4, seed 0", tmp_path / "run.yaml", copy.deepcopy(SETTINGS), tmp_path / "run")


def leave(step, status, used=SETTINGS, state=False):
    """Leave in a step's folder what a run leaves there."""
    (step.folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 0, **used}))
    result = {"status": status, "config": used, "seconds": 7.0, "error": "no such thing"}
    (step.folder / "result.json").write_text(json.dumps(result))
    (step.folder / "checkpoints").mkdir(exist_ok=True)
    if state:
        (step.folder / "checkpoints" / "last.ckpt").touch()


@pytest.mark.parametrize(
    ("status", "state", "found"),
    [
        ("cancelled", True, GOES_ON),
        ("running", True, GOES_ON),  # killed
        ("cancelled", False, "it ended as cancelled"),
        ("failed", True, "it ended as failed"),
        ("success", True, FINISHED),
    ],
)
def test_a_training_that_was_stopped_goes_on(step, monkeypatch, status, state, found):
    calls = []
    monkeypatch.setattr(work, "start", lambda *words, **more: calls.append(words) or 143)
    assert state_of(step) == NEW
    leave(step, status, state=state)
    assert state_of(step) == found
    assert work.work(step) == ("" if found == FINISHED else "it was stopped; the same command goes on with it")
    assert len(calls) == (found != FINISHED)
    if found != FINISHED:
        assert (calls[0] == ("fit", "--resume", str(step.folder))) == (found == GOES_ON)
    leave(step, status, SETTINGS | {"trainer": {"max_epochs": 3}}, state)
    assert state_of(step) not in (FINISHED, GOES_ON), "other settings"


def test_a_setting_that_is_taken_away_is_a_change(step):
    """What a run used holds the defaults, too, so a value there may be of the file or not."""
    leave(step, "success", SETTINGS | {"data": SETTINGS["data"] | {"flip": True}})
    step.config.write_text(yaml.safe_dump(SETTINGS))
    assert state_of(step) == FINISHED
    step.config.write_text(yaml.safe_dump(SETTINGS | {"data": SETTINGS["data"] | {"flip": True}}))
    assert state_of(step) == "its settings have changed since"
    leave(step, "cancelled", SETTINGS | {"data": SETTINGS["data"] | {"flip": True}}, state=True)
    assert state_of(step) == "it ended as cancelled", "nor does it go on"


def test_more_settings_than_were_written_make_no_difference(step):
    leave(step, "success", SETTINGS | {"data": SETTINGS["data"] | {"more": 1}})
    assert state_of(step) == FINISHED


def test_a_number_that_yaml_takes_for_a_text_is_the_number_that_was_used(step):
    step.settings["trainer"] = {"gradient_clip_val": "1e-1"}
    leave(step, "success", SETTINGS | {"trainer": {"gradient_clip_val": 0.1}})
    assert state_of(step) == FINISHED
    leave(step, "success", SETTINGS | {"trainer": {"gradient_clip_val": 0.2}})
    assert state_of(step) == "its settings have changed since"


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (1, "look into x\nerror: the rank is 0; give another\n", "the rank is 0; give another; see "),
        (1, "Traceback\nValueError\n", "it ended with exit code 1; see "),
        (-9, "error: an older one\n", "it was killed by signal 9; see "),
        (0, "", "it ended with exit code 0; see "),  # exit code 0 alone is no success
        (143, "", "it was stopped; the same command goes on with it"),
    ],
)
def test_why_a_step_failed_is_said(step, monkeypatch, code, said, reason):
    monkeypatch.setattr(work, "start", lambda *words, log, **more: (log.write_text(said) and code) or code)
    assert work.work(step).startswith(reason)
    if "see" in reason:  # so that a report can say it
        left = json.loads((step.folder / "result.json").read_text())
        assert left["status"] == "failed" and left["error"] == reason.removesuffix("; see ")
        assert state_of(step) == "it ended as failed"


def test_a_run_that_still_works_in_the_folder_is_waited_for(step, monkeypatch):
    """A study that was killed may leave one for some seconds."""
    looks = []

    def look(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            leave(step, "success")
            owner.close()

    def start(*words, **more):
        raise AssertionError("it has been finished meanwhile")

    owner = contextlib.ExitStack()
    owner.enter_context(owned(step.folder))
    monkeypatch.setattr(work.time, "sleep", look)
    monkeypatch.setattr(work, "start", start)
    assert work.work(step) == ""
    assert len(looks) == 2


def test_a_result_of_other_settings_adapters_or_prompts_is_no_answer(tmp_path):
    adapters = tuple(tmp_path / name for name in ("a.safetensors", "b.safetensors"))
    prompts = tmp_path / "prompts.txt"
    model, data = {"steps": 12, "weights": [[1, 0]], "adapters": ["x"]}, {"file": str(prompts)}
    settings = {"model": {"init_args": model}, "data": {"init_args": data}}
    step = Step("test", "seed 0", tmp_path / "test.yaml", settings, tmp_path, adapters)
    for adapter in adapters:
        adapter.write_bytes(adapter.stem.encode())
    prompts.write_text("a cat\na dog\n")
    used = {"model": {"init_args": model | {"adapters": ["given/by/hand"], "more": None}}, "data": {"init_args": data}}
    (tmp_path / "result.json").write_text(json.dumps({"status": "success", "config": used}))
    hashes = {name: sha256(name.encode()).hexdigest() for name in ("a", "b")}
    lines = [{"content": content, "adapters": hashes} for content in ("a cat", "a dog", "a cat")]
    (tmp_path / "pictures.jsonl").write_text("\n".join(map(json.dumps, lines)))
    os.utime(tmp_path / "result.json", (1, 1))  # when files were written does not matter: a copied folder is as good
    assert state_of(step) == FINISHED
    adapters[0].write_bytes(b"second")
    assert state_of(step) == "its adapters have changed since"
    adapters[0].write_bytes(b"b")
    adapters[1].write_bytes(b"a")
    assert state_of(step) == "its adapters have changed since", "weights are theirs in this order"
    adapters[0].write_bytes(b"a")
    adapters[1].write_bytes(b"b")
    prompts.write_text("a cat\na house\n")
    assert state_of(step) == "prompts.txt has changed since"
    prompts.write_text("a cat\na dog\n")
    model["steps"] = 20
    assert state_of(step) == "its settings have changed since"
    model["steps"] = 12
    adapters[0].unlink()
    assert state_of(step) == "its adapters are not there"
