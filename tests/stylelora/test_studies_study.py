"""Tables of whole studies, and what is run for them."""

import json
import os
from hashlib import sha256

import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from stylelora.records import InputError, Metric, Quantity
from stylelora.studies import study
from stylelora.studies.tables import gallery, resolution_table
from tests.finished import write_finished


def trained_and_tested(folder, style, size):
    """A run of the resolution study and its test, as `fit` and `test` leave them."""
    with SummaryWriter(folder) as writer:
        for step in range(20):
            writer.add_scalar("train/loss", 1.0 if step < 18 else size / 100, step)
    skill = Metric(0.4, 0.3, 0.5, 9, Quantity("skill"), higher_is_better=True)
    (folder / "result.json").write_text(json.dumps({"status": "success", "metrics": [skill.as_record()]}))
    conditions = {
        condition: {
            Quantity("clip_score", "mini"): lambda i, j: 0.5,
            Quantity("style", "mini-style", "watercolor"): lambda i, j, level=level: level + 0.01 * (i % 3),
        }
        for condition, level in (("base", 0.2), ("watercolor 1", style))
    }
    write_finished(folder / "test", conditions)
    return folder


def test_the_study_of_resolution_measures_on_the_scale_of_the_whole_pictures(tmp_path):
    folders = [
        trained_and_tested(tmp_path / f"mini_box_{size:02d}", style, size) for size, style in ((8, 0.3), (64, 0.6))
    ]
    lines = resolution_table(folders).splitlines()
    assert lines[2].startswith("| 8 px | box | 0.0800 | 0.400 (0.300 to 0.500) | 0.500 (0.500 to 0.500) |")
    assert "| 0.250 (0.250 to 0.250) | 1.000 |" in lines[2]
    assert lines[3].endswith("| 1.000 | - |")


def test_runs_of_the_study_with_other_prompts_are_not_set_side_by_side(tmp_path):
    folders = [
        trained_and_tested(tmp_path / f"mini_box_{size:02d}", style, size) for size, style in ((8, 0.3), (64, 0.6))
    ]
    values = folders[0] / "test" / "values.jsonl"
    values.write_text(values.read_text().replace("thing 3", "thing x"))
    with pytest.raises(InputError, match="other prompts or seeds"):
        resolution_table(folders)


def test_the_gallery_has_a_column_for_the_base_and_for_each_run(tmp_path):
    folders = []
    for number, size in enumerate((8, 64)):
        folders.append(tmp_path / f"mini_box_{size:02d}")
        (folders[-1] / "test").mkdir(parents=True)
        rows = []
        for condition, trigger, grey in (
            ("base", True, 50),
            ("watercolor 1", True, 100 + 50 * number),
            ("no", False, 250),
        ):
            for i in range(10):
                name = f"{condition}-{i}.png"
                Image.new("RGB", (96, 96), (grey,) * 3).save(folders[-1] / "test" / name)
                rows.append({"condition": condition, "trigger": trigger, "content": f"thing {i}", "file_name": name})
        (folders[-1] / "test" / "pictures.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = gallery(folders)
    assert path == tmp_path / "gallery.png"
    with Image.open(path) as grid:
        shades = {colour[0] for _, colour in grid.getcolors(grid.width * grid.height) if _ >= 8 * 96 * 96}
        assert {50, 100, 150} <= shades
        assert 250 not in shades


def test_what_has_a_result_is_not_run_again_and_a_failure_is_said(tmp_path, monkeypatch):
    calls = []

    monkeypatch.setattr(study, "start", lambda *words: calls.append(words) or 1)
    config = yaml.safe_load((study.CONFIGS / "quickstart.yaml").read_text())
    used = {"seed_everything": 0, **config, "data": config["data"] | {"more": 1}}
    (tmp_path / "result.json").write_text(json.dumps({"status": "success", "config": used}))
    study.run("fit", study.CONFIGS / "quickstart.yaml", tmp_path)
    assert calls == []
    (tmp_path / "result.json").write_text(json.dumps({"status": "failed", "config": used}))
    with pytest.raises(InputError, match=r"fit of configs.quickstart\.yaml failed"):
        study.run("fit", study.CONFIGS / "quickstart.yaml", tmp_path)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("status", "state", "goes_on"),
    [
        ("cancelled", True, True),
        ("running", True, True),  # killed
        ("cancelled", False, False),
        ("failed", True, False),
        ("success", True, False),
    ],
)
def test_a_training_that_was_stopped_goes_on(tmp_path, monkeypatch, status, state, goes_on):
    calls, config = [], study.CONFIGS / "quickstart.yaml"
    monkeypatch.setattr(study, "start", lambda *words: calls.append(words) or 143)
    settings = yaml.safe_load(config.read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 0, **settings}))
    (tmp_path / "result.json").write_text(json.dumps({"status": status, "config": settings}))
    (tmp_path / "checkpoints").mkdir()
    if state:
        (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert study.goes_on(config, tmp_path) == goes_on
    if status != "success":
        with pytest.raises(InputError, match="was stopped; run the same command again to continue"):
            study.run("fit", config, tmp_path)
        assert (calls[0] == ("fit", "--resume", str(tmp_path))) == goes_on
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings | {"trainer": {"max_epochs": 3}}))
    assert not study.goes_on(config, tmp_path), "other settings"


def test_exit_code_0_alone_is_no_success(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "start", lambda *words: 0)
    with pytest.raises(InputError, match="failed"):
        study.run("fit", study.CONFIGS / "quickstart.yaml", tmp_path)


def test_a_result_of_other_settings_adapters_or_prompts_is_no_answer(tmp_path, capsys):
    config, adapter, prompts = (tmp_path / name for name in ("run.yaml", "adapter.safetensors", "prompts.txt"))
    model = {"steps": 12, "weights": [[1, 0]], "adapters": ["a"]}
    data = {"file": str(prompts)}
    config.write_text(yaml.safe_dump({"model": {"init_args": model}, "data": {"init_args": data}}))
    adapter.write_bytes(b"first")
    prompts.write_text("a cat\na dog\n")
    used = {"model": {"init_args": model | {"adapters": ["given/by/hand"], "more": None}}, "data": {"init_args": data}}
    (tmp_path / "result.json").write_text(json.dumps({"status": "success", "config": used}))
    hashes = {"adapter": sha256(b"first").hexdigest()}
    lines = [{"content": content, "adapters": hashes} for content in ("a cat", "a dog", "a cat")]
    (tmp_path / "pictures.jsonl").write_text("\n".join(map(json.dumps, lines)))
    os.utime(tmp_path / "result.json", (1, 1))  # when files were written does not matter: a copied folder is as good
    assert study.is_answered(config, tmp_path, [adapter])
    adapter.write_bytes(b"second")
    assert not study.is_answered(config, tmp_path, [adapter])
    assert "its adapters have changed since: running again" in capsys.readouterr().out
    adapter.write_bytes(b"first")
    prompts.write_text("a cat\na house\n")
    assert not study.is_answered(config, tmp_path, [adapter])
    assert "prompts.txt has changed since: running again" in capsys.readouterr().out
    prompts.write_text("a cat\na dog\n")
    config.write_text(yaml.safe_dump({"model": {"init_args": model | {"steps": 20}}, "data": {"init_args": data}}))
    assert not study.is_answered(config, tmp_path, [adapter])
    assert "run.yaml has changed since" in capsys.readouterr().out
    assert not study.is_answered(config, tmp_path / "nowhere")
