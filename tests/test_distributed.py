"""Two processes train what one trains."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stylelora.runs.folder import adapter_file
from tests.runs import ROOT, draw_pictures, evaluation_words, fit_words, metrics_of

pytestmark = pytest.mark.slow
ROUNDING = 1e-4  # of a cosine, where a picture differs in the last of its 255 steps
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


def fit(words, timeout=300):
    return subprocess.run([sys.executable, ROOT / "cli.py", *words], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def runs(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    """One run with one process, and one with two, at the same global batch; with an odd number of held-out pictures."""
    folder = tmp_path_factory.mktemp("runs")
    more = ["--model.optimizer.lr=1.0e-4", "--data.init_args.prompts=[a cat, a dog, a boat]"]
    for name, words in {
        "one": ["--data.init_args.batch_size=4"],
        "two": ["--data.init_args.batch_size=2", *TWO],
    }.items():
        run = fit([*fit_words(tiny_sd, tiny_clip, pictures, folder / name, epochs=2), *more, *words])
        assert run.returncode == 0, run.stderr
    return folder / "one", folder / "two"


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


@pytest.mark.parametrize("name", ["val/loss", "val/base_loss", "val/clip_score", "val/clip_score_base"])
def test_measurements_are_the_same(runs, name):
    one, two = (scalars(folder, name) for folder in runs)
    assert len(one) == len(two) == 2
    assert two == pytest.approx(one, rel=1e-5, abs=ROUNDING if "clip" in name else 0)


def test_adapters_are_the_same(runs):
    for which in ("", "-last"):
        one, two = (load_file(adapter_file(folder, which)) for folder in runs)
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_allclose(two[key], one[key], atol=1e-5, rtol=0)


def test_a_trained_text_encoder_is_the_same(tiny_sd, tiny_clip, pictures, tmp_path):
    more = ["--model.text_encoder.rank=2", "--model.optimizer.lr=1.0e-4", "--model.caption_dropout=0.5"]
    found = []
    for name, words in {"one": ["--data.batch_size=4"], "two": ["--data.batch_size=2", *TWO]}.items():
        run = fit([*fit_words(tiny_sd, tiny_clip, pictures, tmp_path / name), *more, *words])
        assert run.returncode == 0, run.stderr
        found.append(load_file(adapter_file(tmp_path / name, "-last")))
    one, two = found
    assert one.keys() == two.keys()
    trained = [key for key in one if key.startswith("lora_te_") and key.endswith("lora_up.weight")]
    assert trained
    assert all(np.abs(one[key]).max() > 1e-5 for key in trained)
    for key in one:
        np.testing.assert_allclose(two[key], one[key], atol=1e-5, rtol=0)


def test_there_is_one_of_each_file_with_the_same_content(runs):
    one, two = (
        sorted(
            p.relative_to(folder).as_posix().replace(f"{folder.name}.", "NAME.").replace(f"{folder.name}-", "NAME-")
            for p in folder.rglob("*")
            if "tfevents" not in p.name
        )
        for folder in runs
    )
    assert one == two
    assert len([name for name in two if name.endswith("result.json")]) == 1
    assert len(list(runs[1].rglob("*tfevents*"))) == 1
    pictures = [name for name in two if name.startswith("samples") and name.endswith(".png")]
    assert len(pictures) == 2 * (3 + 1)
    for name in pictures:
        a, b = (np.array(Image.open(folder / name)).astype(int) for folder in runs)
        assert abs(a - b).max() <= 1
    rows = [[json.loads(line) for line in (folder / "clip_score.jsonl").open()] for folder in runs]
    assert [(row["epoch"], row["index"]) for row in rows[0]] == [(row["epoch"], row["index"]) for row in rows[1]]


def test_results_are_the_same(runs):
    one, two = (json.loads((folder / "result.json").read_text()) for folder in runs)
    assert one["status"] == two["status"] == "success"
    assert one["dataset"] == two["dataset"]
    one, two = map(metrics_of, runs)
    assert one.keys() == two.keys()
    for name, metric in one.items():
        assert two[name]["n"] == metric["n"]
        for key in ("value", "ci_low", "ci_high"):
            assert two[name][key] == pytest.approx(metric[key], rel=1e-4, abs=ROUNDING)


@pytest.mark.parametrize("case", ["unreadable", "too large a batch"])
def test_bad_input_stops_all_processes(tiny_sd, tiny_clip, tmp_path, case):
    root = draw_pictures(tmp_path / "style")
    more = ["--data.init_args.batch_size=64"]
    if case == "unreadable":
        (root / "3.bmp").write_bytes(b"no picture")
        more = []
    started = time.monotonic()
    run = fit([*fit_words(tiny_sd, tiny_clip, root, tmp_path / "run"), *more, *TWO], timeout=120)
    assert time.monotonic() - started < 90
    assert run.returncode != 0
    assert "error: 1 pictures in" in run.stderr if case == "unreadable" else "error: one step needs 128" in run.stderr
    assert not (tmp_path / "run").exists()


def test_two_devices_predict_the_files_of_one(tiny_sd, adapter_files, tmp_path):
    for name, more in {"one": [], "two": TWO}.items():
        run = fit(
            [
                "predict",
                "--model=lightning_modules.ComposedStyles",
                f"--model.init_args.base={tiny_sd}",
                f"--model.init_args.adapters={json.dumps([str(file) for file in adapter_files])}",
                "--model.init_args.weights=[[0.6, 0.4]]",
                "--model.init_args.methods=[sum, composite]",
                "--model.init_args.num_inference_steps=2",
                "--data=datamodules.Prompts",
                "--data.init_args.prompts=[a cat, a dog, a boat]",
                f"--trainer.default_root_dir={tmp_path / name}",
                "--trainer.logger=false",
                *more,
            ]
        )
        assert run.returncode == 0, run.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "pictures.jsonl").read_text() == (two / "pictures.jsonl").read_text()
    names = sorted(path.name for path in (one / "pictures").iterdir())
    assert names == sorted(path.name for path in (two / "pictures").iterdir())
    assert len(names) == 3 * 3
    for name in [f"pictures/{name}" for name in names] + ["grid.png"]:
        images = [np.asarray(Image.open(folder / name)).astype(int) for folder in (one, two)]
        assert np.abs(images[0] - images[1]).max() <= 1


def test_two_devices_measure_what_one_does(tiny_sd, tiny_clip, adapter_files, tmp_path):
    roots = [draw_pictures(tmp_path / name, 45) for name in ("ink", "oil")]
    found = []
    for name, more in {"one": [], "two": TWO}.items():
        words = evaluation_words(tiny_sd, tiny_clip, adapter_files, roots, tmp_path / name, *more)
        run = fit(words)
        assert run.returncode == 0, run.stderr
        found.append(metrics_of(tmp_path / name))
        assert (tmp_path / name / "evaluation.html").is_file()
    one, two = found
    assert one.keys() == two.keys()
    for name, metric in one.items():
        width = 1.0 if metric["ci_low"] is None else metric["ci_high"] - metric["ci_low"]
        assert two[name]["n"] == metric["n"]
        assert two[name]["value"] == pytest.approx(metric["value"], abs=1e-3 + 0.02 * width), name
        ends = [[one[end] or 0 for end in ("ci_low", "ci_high")] for one in (two[name], metric)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-3 + 0.05 * width), name
