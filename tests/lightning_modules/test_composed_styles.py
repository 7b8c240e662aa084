"""`predict`: pictures of blends, how each was made, and what they do not depend on."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from stylelora.diffusion import blend_while_sampling, blends
from stylelora.lora.read import read_adapters
from tests.runs import run_cli

METHODS = ["sum", "tsv_m", "composite", "anchored", "switch", "k_lora"]


def predict(tiny_sd, adapter_files, folder, *more, weights="[[1, 0], [0.6, 0.4], [0, 0]]"):
    words = [
        "predict",
        "--model=lightning_modules.ComposedStyles",
        f"--model.init_args.base={tiny_sd}",
        f"--model.init_args.adapters={json.dumps([str(file) for file in adapter_files])}",
        f"--model.init_args.weights={weights}",
        "--model.init_args.num_inference_steps=3",
        "--data=datamodules.Prompts",
        "--data.init_args.prompts=[a cat, a red boat]",
        "--data.init_args.samples_per_prompt=2",
        f"--trainer.default_root_dir={folder}",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
        *more,
    ]
    code, said = run_cli(words)
    return code, said


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted((folder / "pictures").glob("*.png"))}


@pytest.fixture(scope="module")
def run(tiny_sd, adapter_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    code, said = predict(tiny_sd, adapter_files, folder, f"--model.init_args.methods=[{','.join(METHODS)}]")
    assert code == 0, said
    return folder


def test_every_prompt_seed_and_condition_has_its_picture_and_line(run):
    lines = [json.loads(line) for line in (run / "pictures.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 2 * (1 + 3 * len(METHODS)) == len(pictures(run))
    assert [line["label"] for line in lines[:4]] == ["base", "ink 1", "ink 0.6 + oil 0.4", "base"]
    assert lines[1]["prompt"] == "inkstyle, a cat"
    assert lines[2]["prompt"] == "inkstyle, oilstyle, a cat"
    composite = next(line for line in lines if line["method"] == "composite" and line["label"] == "ink 0.6 + oil 0.4")
    assert composite["prompt"] == "inkstyle, a cat AND oilstyle, a cat"
    for line in lines:
        with Image.open(run / line["file_name"]) as image:
            assert json.loads(image.info["stylelora"]) == {k: v for k, v in line.items() if k != "file_name"}
            said = image.info["parameters"]
            assert said.startswith(line["prompt"])
            assert f"Seed: {line['seed']}, Size: {image.width}x{image.height}, Model: " in said
            assert f"Blend: {line['label']}, Method: {line['method']}" in said
    with Image.open(run / "grid.png") as grid:
        assert grid.height > 4 * len(METHODS) * 64


def test_weights_of_zero_are_the_base_and_one_adapter_is_itself_by_every_method(run):
    made = pictures(run)
    for place in range(4):
        base, ink = made[f"{place:03d}-00.png"], made[f"{place:03d}-01.png"]
        assert np.abs(base - ink).max() > 2
        for number in range(len(METHODS)):
            assert np.abs(made[f"{place:03d}-{3 * number + 3:02d}.png"] - base).max() <= 1
            assert np.abs(made[f"{place:03d}-{3 * number + 1:02d}.png"] - ink).max() <= 1


def test_methods_and_blends_differ(run):
    made = pictures(run)
    blends = [made[f"000-{3 * number + 2:02d}.png"] for number in range(len(METHODS))]
    assert all(np.abs(blend - made["000-01.png"]).max() > 2 for blend in blends)
    assert len({blend.tobytes() for blend in blends}) == len(blends) - 1  # anchored is composite at a strength of 1


@pytest.mark.slow
def test_pictures_do_not_depend_on_the_batch_size(tiny_sd, adapter_files, run, tmp_path):
    more = ("--data.init_args.batch_size=1", f"--model.init_args.methods=[{','.join(METHODS)}]")
    assert predict(tiny_sd, adapter_files, tmp_path, *more)[0] == 0
    before, after = pictures(run), pictures(tmp_path)
    assert before.keys() == after.keys()
    assert all(np.abs(before[name] - picture).max() <= 1 for name, picture in after.items())


@pytest.mark.slow
def test_a_blend_is_computed_once_however_many_batches(tiny_sd, adapter_files, tmp_path, monkeypatch):
    calls = []
    for module, name in ((blends, "blend"), (blend_while_sampling, "switch_times")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *words, o=original, n=name: calls.append(n) or o(*words))
    more = ("--data.init_args.batch_size=1", "--model.init_args.methods=[sum, k_lora]")
    more += ("--model.init_args.guidance_scales=[1, 4]", "--model.init_args.num_inference_steps=1")
    assert predict(tiny_sd, adapter_files, tmp_path, *more)[0] == 0
    assert len(pictures(tmp_path)) == 4 * (2 + 2 * 2 * 3)
    assert sorted(calls) == ["blend", "blend", "switch_times"]


@pytest.mark.slow
def test_a_second_run_leaves_the_first_beside_it(tiny_sd, adapter_files, tmp_path):
    for weights in ("[[1, 0], [0, 1]]", "[[1, 0]]"):
        assert predict(tiny_sd, adapter_files, tmp_path / "run", weights=weights)[0] == 0
    assert len(pictures(tmp_path / "run")) == 4 * 2
    assert len(pictures(tmp_path / "run.1")) == 4 * 3


def test_adapters_of_one_name_go_by_their_folders(tmp_path, adapter_files):
    for folder, file in zip(("a", "b"), adapter_files, strict=True):
        (tmp_path / folder).mkdir()
        shutil.copy(file, tmp_path / folder / "ink.safetensors")
    assert [one.name for one in read_adapters([tmp_path / x / "ink.safetensors" for x in "ab"])] == ["a/ink", "b/ink"]


def test_another_scheduler_makes_other_pictures(tiny_sd, adapter_files, run, tmp_path):
    more = ("--model.init_args.scheduler=diffusers.EulerDiscreteScheduler", "--model.init_args.methods=[sum]")
    assert predict(tiny_sd, adapter_files, tmp_path, *more)[0] == 0
    assert np.abs(pictures(tmp_path)["000-00.png"] - pictures(run)["000-00.png"]).max() > 0
    assert "EulerDiscreteScheduler" in (tmp_path / "pictures.jsonl").read_text()


@pytest.mark.parametrize(
    ("more", "weights", "said"),
    [
        (("--model.init_args.scheduler=diffusers.Nothing",), "[[1, 0]]", "is not there; give a class such as"),
        (("--model.init_args.scheduler=torch.nn.Linear",), "[[1, 0]]", "does not suit this base"),
        (("--model.init_args.scheduler=diffusers.FlowMatchEulerDiscreteScheduler",), "[[1, 0]]", "does not suit"),
        (("--model.init_args.scheduler=diffusers.EulerAncestralDiscreteScheduler",), "[[1, 0]]", "draws noise of its"),
        (("--model.init_args.resolution=70",), "[[1, 0]]", "resolution 70 does not suit this base"),
        (("--model.init_args.num_inference_steps=0",), "[[1, 0]]", "steps is 0"),
        ((), "[[1]]", "2 adapters but 1 weights"),
        ((), "[[1, -1]]", "is not a number of at least 0"),
        ((), "[]", "at least one list of weights"),
        (("--data.init_args.prompts=[]",), "[[1, 0]]", "at least one prompt"),
        (("--data.init_args.file=gone.txt", "--data.init_args.prompts=null"), "[[1, 0]]", "gone.txt"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(tiny_sd, adapter_files, tmp_path, more, weights, said):
    code, output = predict(tiny_sd, adapter_files, tmp_path / "run", *more, weights=weights)
    assert code != 0
    assert said in output
    assert not (tmp_path / "run" / "pictures").exists()
