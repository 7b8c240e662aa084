"""A signal in each phase of each verb: the exit code, the result, and what is kept."""

import json
import os
import signal

import pytest
from safetensors.torch import load_file

from stylelora.runs.folder import adapter_file
from stylelora.runs.pictures import read_lines
from tests.faults.faulty import owner_of, plant
from tests.raw import files, noise
from tests.runs import ROOT, draw_pictures, evaluation_words, fit_words, run_cli, same

pytestmark = pytest.mark.usefixtures("heard")
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
SAID = {"SIGINT": "stopped with Ctrl-C", "SIGTERM": "stopped by SIGTERM", "SIGHUP": "stopped by SIGHUP"}


other = sorted({*CODES} - {"SIGTERM"})


def stop_at(monkeypatch, place, name, call=1):
    """Let a function of the program send this process a signal before a call of it."""
    owner, function = owner_of(place)
    monkeypatch.setattr(owner, function, getattr(owner, function))  # to be taken back
    plant(place, call, lambda: os.kill(os.getpid(), getattr(signal, name)))


def stopped(name, status, said):
    """Check how a run ended that a signal ended."""
    assert status == CODES[name]
    assert SAID[name] in said and "Traceback" not in said


@pytest.fixture(scope="module")
def straight(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2))[0] == 0
    return folder


#: Phase of `fit` -> function that sends the signal, at which of its calls, and whether there is a state by then.
FIT = {
    "parsing": ("stylelora.runs.begin.check_precision", 1, None),
    "loading the base": ("lightning_modules.style_lora.load_unet", 1, None),
    "scanning": ("stylelora.data.dataset.StyleDataset.scan", 1, False),
    "encoding": ("stylelora.data.cache._encode_picture", 3, False),
    "setting up": ("stylelora.data.dataset.StyleDataset.share", 1, False),
    "training": ("stylelora.diffusion.objective.Objective.losses", 7, True),
    "measuring": ("stylelora.diffusion.watch.bank_losses", 2, True),
    "sampling": ("stylelora.diffusion.samples.Sampler.draw", 1, True),
    "scoring": ("callbacks.clip_score.score_samples", 1, True),
    "writing a sheet": ("callbacks.sample_images.labelled_grid", 1, True),
    "writing an adapter": ("callbacks.save_adapter.write_lora", 1, True),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "name"),
    [(phase, name) for phase in FIT for name in CODES if name == "SIGTERM" or phase in ("encoding", "sampling")],
)
def test_fit(straight, tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch, phase, name):
    folder = tmp_path / "run"
    words = fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2)
    place, call, state = FIT[phase]
    with monkeypatch.context() as patch:
        stop_at(patch, place, name, call)
        status, said = run_cli(words)
    stopped(name, status, said)
    if state is None:
        assert not (folder / "result.json").exists()
        return
    record = json.loads((folder / "result.json").read_text())
    assert record["status"] == "cancelled" and record["error"].startswith(SAID[name])
    assert (folder / "checkpoints" / "last.ckpt").is_file() == state
    if state:
        assert f"--resume {folder}" in said
        assert adapter_file(folder, "-last").is_file()
        status, said = run_cli(["fit", f"--resume={folder}"])
        assert (status, json.loads((folder / "result.json").read_text())["status"]) == (0, "success"), said
        for which in ("-last", ""):
            resumed = load_file(tmp_path / "run" / f"run{which}.safetensors")
            assert same(resumed, load_file(straight / f"run{which}.safetensors"))


def predict_words(tiny_sd, adapter_files, folder):
    return [
        "predict",
        "--model=lightning_modules.ComposedStyles",
        f"--model.base={tiny_sd}",
        f"--model.adapters={json.dumps([str(file) for file in adapter_files])}",
        "--model.weights=[[0.6, 0.4]]",
        "--model.num_inference_steps=2",
        "--data=datamodules.Prompts",
        "--data.prompts=[a cat, a dog, a boat]",
        "--data.batch_size=1",
        "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={folder}",
    ]


@pytest.mark.parametrize(
    "name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow), pytest.param("SIGHUP", marks=pytest.mark.slow)]
)
def test_predict_keeps_and_lists_its_pictures(tiny_sd, adapter_files, tmp_path, monkeypatch, name):
    stop_at(monkeypatch, "stylelora.diffusion.painter.sample_condition", name, call=4)
    status, said = run_cli(predict_words(tiny_sd, adapter_files, tmp_path / "run"))
    stopped(name, status, said)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "cancelled"
    listed = [row["file_name"] for row in read_lines(tmp_path / "run" / "pictures.jsonl")]
    assert listed == ["pictures/000-00.png", "pictures/000-01.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir()) == ["000-00.png", "000-01.png"]
    assert f"2 pictures are in {tmp_path / 'run' / 'pictures'}" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    ["stylelora.evaluation.measure_all.measure_content", "callbacks.evaluate.page", "callbacks.evaluate.write_grids"],
)
def test_test_keeps_and_lists_its_pictures(tiny_sd, tiny_clip, adapter_files, tmp_path, monkeypatch, place):
    roots = [draw_pictures(tmp_path / name, 45) for name in ("ink", "oil")]
    words = evaluation_words(tiny_sd, tiny_clip, adapter_files, roots, tmp_path / "run")
    stop_at(monkeypatch, place, "SIGTERM")
    status, said = run_cli(words)
    stopped("SIGTERM", status, said)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "cancelled"
    made = sorted((tmp_path / "run" / "pictures").iterdir())
    assert made and len(read_lines(tmp_path / "run" / "pictures.jsonl")) == len(made)
    status, said = run_cli(["compare", f"--runs=[{tmp_path / 'run'}, {tmp_path / 'run'}]"])
    assert (status == 1 and "is not a finished test" in said) or "ended as cancelled" in said


@pytest.mark.parametrize("name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in other)])
@pytest.mark.parametrize(
    "place",
    [
        "stylelora.preprocess.normalise.normalise",
        "stylelora.preprocess.preprocess.judge",
        "stylelora.preprocess.preprocess.write_training_set",
        "stylelora.preprocess.training_set.is_untouched",
    ],
)
def test_preprocess_goes_on_when_it_is_typed_again(tmp_path, monkeypatch, place, name):
    (tmp_path / "raw").mkdir()
    for number in range(3):
        noise(number).save(tmp_path / "raw" / f"{number}.png")
        (tmp_path / "raw" / f"{number}.txt").write_text(f"a thing with number {number}")
    words = ["preprocess", f"--source={tmp_path / 'raw'}", "--style=zebra", "--trigger=zqx", "--resolution=64"]
    words += [f"--output={tmp_path / 'data'}", "--workers=1", "--strict=false"]
    assert run_cli(words)[0] == 0
    whole = files(tmp_path / "data")
    (tmp_path / "raw" / "3.txt").write_text("not a caption of any picture")
    with monkeypatch.context() as patch:
        stop_at(patch, place, name)
        status, said = run_cli(words)
    stopped(name, status, said)
    assert "run the same command again to continue" in said
    now = files(tmp_path / "data")
    assert now == whole or (place.endswith("is_untouched") and "3.txt" in now["census.html"].decode())
    assert run_cli(words)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "raw"]


@pytest.mark.parametrize("name", [*CODES])
def test_before_anything_is_begun_nothing_is_left(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    stop_at(monkeypatch, "cli.quiet", name)
    status, said = run_cli(["fit", f"--config={ROOT / 'configs' / 'quickstart.yaml'}"])
    stopped(name, status, said)
    assert not [*tmp_path.iterdir()]
