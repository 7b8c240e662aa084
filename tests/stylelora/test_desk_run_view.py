import csv
import json
import os
import shutil
import struct

import pytest
from filelock import FileLock

from stylelora.desk import run_words as words
from stylelora.desk.run_view import read_run, traces
from stylelora.metrics.statistics import mean_interval
from stylelora.records import InputError
from tests import watched


@pytest.fixture
def ink(tmp_path):
    return watched.write_training(tmp_path / "runs" / "ink")[0]


def read(folder):
    return read_run(folder.parent, folder.name)


def test_a_finished_training_is_read(ink):
    view = read(ink)
    assert (view.state, view.kept, view.epochs, view.by_epochs) == ("finished", 1, 3, True)
    assert [one.skill.value for one in view.points] == pytest.approx(watched.SKILLS)
    assert [one.skill.ci_low for one in view.points] == pytest.approx([0.05, 0.25, 0.15])
    assert [one.skill.ci_high for one in view.points] == pytest.approx([0.14, 0.34, 0.24])
    assert [(one.epoch, one.step) for one in view.points] == [(0, 5), (1, 10), (2, 15)]
    assert [one.train_loss for one in view.points] == pytest.approx([0.2] * 3)
    assert [one.loss for one in view.points] == pytest.approx([0.2, 0.19, 0.18])
    assert view.points[1].clip_score == mean_interval([0.6, 0.5, 0.3], groups=watched.PROMPTS)
    assert view.points[1].base_score == mean_interval([0.8, 0.6, 0.4], groups=watched.PROMPTS)
    assert view.points[1].content == pytest.approx(1.4 / 3 / 0.5)  # of the real pictures', which is the lower one
    assert [one.sheet.stem for one in view.points] == [watched.point(epoch) for epoch in range(3)]
    assert (view.adapter.name, view.last.name) == ("ink.safetensors", "ink-last.safetensors")
    assert view.notes["trigger"] == "inkstyle"


def test_a_training_under_way_is_read_while_it_writes(tmp_path):
    folder, writer = watched.write_training(tmp_path / "runs" / "ink", 1, "running", kept=0, planned=9)
    with FileLock(folder / ".lock"):
        assert read(folder).state == "training"
        before = traces(folder)
        watched.write_epoch(folder, writer, 1)
        assert traces(folder) != before
        assert len(read(folder).points) == 2
        lines = (folder / "clip_score.jsonl").read_text()
        (folder / "clip_score.jsonl").write_text(lines[:-20])
        assert read(folder).points[1].clip_score == mean_interval([0.6, 0.5], groups=watched.PROMPTS[:2])
        (folder / "result.json").write_text('{"status": "run')
        (folder / "ink.safetensors").write_bytes((folder / "ink.safetensors").read_bytes()[:20])
        (folder / "config.yaml").write_text("trainer: {max_epo")
        view = read(folder)
        assert (view.state, view.kept, view.epochs, len(view.points)) == ("training", None, None, 2)
    assert read(folder).state == "killed"


def test_a_log_that_ends_within_a_record_gives_those_before(tmp_path):
    folder, writer = watched.write_training(tmp_path / "ink", 2)
    [log] = folder.glob("events*")
    before = log.stat().st_size
    writer.add_scalar("epoch", 7, 99)
    writer.add_scalar("val/skill", 0.9, 99)
    writer.flush()
    whole, both = log.read_bytes(), pytest.approx([0.1, 0.3])
    assert [one.skill.value for one in read(folder).points] == pytest.approx([0.1, 0.3, 0.9])
    for end in range(before, len(whole)):
        log.write_bytes(whole[:end])
        assert [one.skill.value for one in read(folder).points if one.skill] == both


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [("success", "finished", "Finished"), ("cancelled", "stopped", "--resume"), ("failed", "failed", "Failed after")],
)
def test_how_a_training_ended_is_said(tmp_path, status, state, said):
    folder, _ = watched.write_training(tmp_path / "ink", status=status, planned=16, error="the disk is full")
    view = read(folder)
    assert view.state == state
    assert said in words.state(view) and "epoch 3 of 16" in words.state(view)
    assert (status == "failed") == ("the disk is full" in words.state(view))


def test_csv_logs_give_the_same_numbers(ink):
    expected = read(ink)
    for file in ink.glob("events*"):
        file.unlink()
    assert all(one.skill is None for one in read(ink).points)  # but sheets and CLIP scores need no logger
    (ink / "csv").mkdir()
    with (ink / "csv" / "metrics.csv").open("w", newline="") as file:
        table = csv.writer(file)
        skill = ["val/skill", "val/skill_ci_low", "val/skill_ci_high"]
        table.writerow(["epoch", "step", *skill, "val/loss", "val/base_loss", "val/clip_score_real", "train/loss"])
        for i, one in enumerate(expected.points):
            table.writerow([i, one.step - 2, "", "", "", "", "", "", one.train_loss])
            ends = [one.skill.value, one.skill.ci_low, one.skill.ci_high]
            table.writerow([i, one.step - 1, *ends, one.loss, one.base_loss, one.real_score, ""])
        file.write("3,19,0.")  # half of a row
    assert read(ink).points[:3] == expected.points


def test_validations_within_epochs_and_without_samples(tmp_path):
    folder, writer = watched.write_training(tmp_path / "ink", 1)
    writer.add_scalar("epoch", 0, 7)
    writer.add_scalar("val/skill", 0.4, 7)
    writer.flush()
    view = read(folder)
    assert [(one.epoch, one.step) for one in view.points] == [(0, 5), (0, 8)]
    assert not view.by_epochs and view.points[1].sheet is None
    assert words.heading(view, 1) == "Measurement 2: epoch 1 of 1, step 8"
    assert "Skill 0.400." in words.numbers(view, 1) and "No sheet" in words.numbers(view, 1)


def test_validations_after_each_step_are_told_apart(tmp_path):
    folder, writer = watched.write_training(tmp_path / "ink", 1)
    for step in (3, 4, 5, 6):
        (folder / "samples" / f"epoch=000-step={step:06d}.png").touch()
        writer.add_scalar("epoch", 0, step - 1)
        writer.add_scalar("val/loss", step / 10, step - 1)
    writer.flush()
    points = read(folder).points
    assert [one.step for one in points] == [3, 4, 5, 6]
    assert [one.loss for one in points] == pytest.approx([0.3, 0.4, 0.5, 0.6])


def test_epochs_of_one_step_and_a_validation_after_an_epochs_end_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "STEPS", 1)
    folder, writer = watched.write_training(tmp_path / "ink", 3)
    writer.add_scalar("epoch", 2, 3)
    writer.add_scalar("val/loss", 0.7, 3)
    writer.flush()
    assert [(one.epoch, one.step) for one in read(folder).points] == [(0, 1), (1, 2), (2, 3)]
    assert read(folder).points[-1].loss == pytest.approx(0.7)


def test_without_held_out_pictures_and_scorer_there_is_a_sheet_and_no_number(tmp_path):
    folder = tmp_path / "ink"
    watched.write_training(folder, 2)
    for file in folder.glob("events*"):
        file.unlink()
    (folder / "clip_score.jsonl").write_text("")
    view = read(folder)
    assert len(view.points) == 2 and view.points[0].content is None
    assert "Nothing that was measured" in words.numbers(view, 0)
    assert "highest skill" in words.about(view)  # another logger has it
    watched.save_adapter(folder, "", 1, held_out=0)
    assert "without held-out pictures it is the last one" in words.about(read(folder))


def test_samples_that_show_too_little_of_their_prompts_are_said(ink):
    assert "show 87% of what they should of their prompts, less than the 90%" in words.numbers(read(ink), 2)
    assert "should" not in words.numbers(read(ink), 1)
    watched.save_adapter(ink, "", 2)
    assert "Kept: epoch 3 of 3; no epoch's samples show enough" in words.about(read(ink))
    with (ink / "clip_score.jsonl").open("a") as file:
        file.write(json.dumps(watched.clip_rows(2)[0] | {"score": float("nan"), "index": 9}) + "\n")
    assert read(ink).points[2].clip_score == mean_interval([0.5, 0.5, 0.3], groups=watched.PROMPTS)


def test_the_kept_skill_of_another_logger_is_that_of_the_result(tmp_path):
    record = {
        "condition": None, "measure": "skill", "judge": None, "style": None, "at": [], "value": 0.3, "ci_low": 0.2,
        "ci_high": None, "n": 4, "higher_is_better": True,
    }  # fmt: skip
    folder, _ = watched.write_training(tmp_path / "ink", metrics=[record])
    for file in folder.glob("events*"):
        file.unlink()
    assert [one.skill and one.skill.value for one in read(folder).points] == [None, 0.3, None]
    assert "Skill 0.300." in words.numbers(read(folder), 1)  # without an end of its interval


def test_a_moved_run_keeps_its_adapters_and_those_of_epochs_are_found(ink):
    watched.save_adapter(ink, f"-{watched.point(2)}", 2)
    moved = ink.rename(ink.with_name("ink.1"))
    view = read(moved)
    assert view.adapter.name == "ink.safetensors" and view.kept == 1
    assert [one.adapter and one.adapter.name for one in view.points] == [
        None,
        None,
        f"ink-{watched.point(2)}.safetensors",
    ]
    assert watched.point(2) in words.files(view, 2)


def test_files_that_links_bring_in_are_left_out(ink):
    secret = ink.parent.parent / "secret.png"
    shutil.copy(ink / "samples" / f"{watched.point(0)}.png", secret)
    (ink / "samples" / f"{watched.point(0)}.png").unlink()
    os.symlink(secret, ink / "samples" / f"{watched.point(0)}.png")
    shutil.move(ink / "ink-last.safetensors", secret.with_suffix(".safetensors"))
    os.symlink(secret.with_suffix(".safetensors"), ink / "ink-last.safetensors")
    view = read(ink)
    assert view.points[0].sheet is None and view.points[1].sheet is not None
    assert view.last is None and view.adapter is not None


@pytest.mark.parametrize(
    "damage",
    [
        "[1, 2]",
        '{"status": 3, "metrics": [{}], "step": "x"}',
        "\0",
        '{"metrics": 5, "status": [1], "model": {"init_args": {"keep_share": "x"}}}',
    ],
)
@pytest.mark.parametrize("record", [b"\xff" * 60, bytes(60), bytes(range(100, 160))], ids=["ones", "zeros", "letters"])
def test_whatever_stands_in_the_files_nothing_is_raised(ink, damage, record):
    for name in ("result.json", "config.yaml", "clip_score.jsonl"):
        (ink / name).write_text(damage)
    (ink / "ink.safetensors").write_text(damage)
    [log] = ink.glob("events*")
    first = 16 + struct.unpack("<Q", log.read_bytes()[:8])[0]  # where the second record begins, with its length
    content = bytearray(log.read_bytes())
    content[first : first + 60] = record
    log.write_bytes(content)
    view = read(ink)
    assert words.state(view) and words.about(view) is not None
    assert all(words.heading(view, i) and words.numbers(view, i) for i in range(len(view.points)))


def test_a_run_that_is_gone_is_said(ink):
    shutil.rmtree(ink)
    with pytest.raises(InputError, match="moved, renamed or deleted; choose"):
        read(ink)


def test_the_result_of_a_kept_adapter_whose_file_is_gone_tells_which_it_was(ink):
    (ink / "ink.safetensors").unlink()
    (ink / "result.json").write_text(json.dumps({"status": "success", "step": 15, "warning": "look"}))
    view = read(ink)
    assert (view.adapter, view.kept) == (None, 2)
    assert words.heading(view, 2) == "Epoch 3 of 3, kept" and "Note: look." in words.about(view)
