"""`test`: what it leaves, and what its numbers do not depend on."""

import html
import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from stylelora.diffusion import painter
from stylelora.diffusion.sample import initial_noise
from stylelora.evaluation.compare import compare
from stylelora.metrics.measure import MEASURES
from stylelora.runs.folder import adapter_file
from tests.adapters import write_two
from tests.runs import draw_pictures, evaluation_words, fit_words, run_cli
from tests.runs import metrics_of as metrics
from tests.tiny_sd import SMALLEST_UNET, build_tiny_sd

BLEND = "ink 0.6 + oil 0.4"
LOWER_IS_BETTER = {"kid", "frechet", "memorisation", "drift", "pixel_drift", "style_without_trigger"}
LOWER_IS_BETTER |= {"attainment_without_trigger"}


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    """With fewer layers than elsewhere: nothing here depends on them but the time of tests."""
    return build_tiny_sd(tmp_path_factory.mktemp("smallest_sd"), unet=SMALLEST_UNET)


@pytest.fixture(scope="module")
def adapter_files(tiny_sd, tmp_path_factory):
    return write_two(tiny_sd, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return [draw_pictures(tmp_path_factory.mktemp("styles") / name, 45) for name in ("ink", "oil")]


@pytest.fixture(scope="module")
def words(tiny_sd, tiny_clip, adapter_files, roots):
    def make(folder, *more, adapters=adapter_files, **options):
        return evaluation_words(tiny_sd, tiny_clip, adapters, roots, folder, *more, **options)

    return make


class Records(logging.Handler):
    """Keeps what is logged; caplog is for one test only."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.fixture(scope="module")
def logged():
    handler = Records()
    logging.getLogger().addHandler(handler)
    yield handler.said
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def run(words, tmp_path_factory, logged):
    folder = tmp_path_factory.mktemp("test") / "run"
    code, said = run_cli(words(folder))
    assert code == 0, said
    return folder


def pictures(folder, condition):
    rows = [json.loads(line) for line in (folder / "pictures.jsonl").read_text().splitlines()]
    return [np.asarray(Image.open(folder / row["file_name"])) for row in rows if row["condition"] == condition]


def test_every_condition_has_its_metrics_with_interval_and_n_and_the_page_explains_them(run):
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "success"
    found = metrics(run)
    for condition in ("base", "ink 1", "oil 1", BLEND):
        score = found[f"{condition}: clip_score[tiny]"]
        assert score["ci_low"] <= score["value"] <= score["ci_high"]
        assert score["n"] == 3  # prompts, not pictures
    names = {metric["measure"] for metric in found.values()}
    assert {"style", "style_gain", "kid", "frechet", "coverage", "diversity", "memorisation", "skill"} <= names
    assert {"drift", "pixel_drift", "clip_score_full", "skill_at_timestep"} <= names
    assert "ink 1: skill_at_timestep@62/ink" in found
    assert "ink 1: skill/oil" in found  # the cross matrix
    page = html.unescape((run / "evaluation.html").read_text())
    for metric in found.values():
        row = f"<tr><td>{metric['condition']}</td><td>{metric['measure']}</td><td>{metric['judge'] or ''}</td>"
        assert row in page
        measure = MEASURES[metric["measure"]]
        assert (measure.floor if metric["condition"] == "floor" else measure.meaning) in page
        own = metric["style"] is None or metric["style"] in metric["condition"]
        better = metric["measure"] not in LOWER_IS_BETTER and (own or metric["measure"] not in ("style", "attainment"))
        assert metric["higher_is_better"] is better
    for source in re.findall(r'src="(pictures/[^"]*)"', page):
        assert (run / source).is_file()
    lines = [json.loads(line) for line in (run / "values.jsonl").read_text().splitlines()]
    assert len(lines) == 5 * 3 * 2  # base, two alone, two blends; three prompts; two seeds
    values = [
        value["value"]
        for line in lines
        if line["condition"] == "ink 1"
        for value in line["values"]
        if (value["measure"], value["judge"]) == ("clip_score", "tiny")
    ]
    assert len(values) == 6
    assert np.mean(values) == pytest.approx(found["ink 1: clip_score[tiny]"]["value"])


def test_pictures_differ_where_they_should(run):
    base, ink, plain = (
        np.stack(pictures(run, condition)).astype(int) for condition in ("base", "ink 1", "ink 1, no trigger")
    )
    assert np.abs(base - ink).max() > 2
    assert np.abs(ink - plain).max() > 2


def test_the_base_is_what_a_process_without_adapters_makes(words, run, tmp_path):
    code, said = run_cli(words(tmp_path / "base", adapters=[], weights="[]"))
    assert code == 0, said
    alone, beside = pictures(tmp_path / "base", "base"), pictures(run, "base")
    assert len(alone) == 6
    assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))
    found = metrics(tmp_path / "base")
    assert found
    for name, metric in found.items():
        assert metric == metrics(run)[name], name


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_order_of_conditions(words, run, tmp_path):
    code, said = run_cli(words(tmp_path / "other", weights="[[0.3, 0.7], [0.6, 0.4]]"))
    assert code == 0, said
    assert metrics(tmp_path / "other") == metrics(run)


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_batch_size(words, run, tmp_path):
    code, said = run_cli(words(tmp_path / "other", "--data.init_args.batch_size=1"))
    assert code == 0, said
    found = metrics(tmp_path / "other")
    assert found.keys() == metrics(run).keys()
    for name, metric in metrics(run).items():
        width = 1.0 if metric["ci_low"] is None else metric["ci_high"] - metric["ci_low"]
        assert found[name]["value"] == pytest.approx(metric["value"], abs=1e-3 + 0.02 * width), name
        ends = [[one[end] or 0 for end in ("ci_low", "ci_high")] for one in (found[name], metric)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-3 + 0.05 * width), name


def test_a_run_compared_with_its_copy_differs_by_nothing(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    compare([str(run), str(copy)], conditions=[BLEND, BLEND], primary="clip_score", margin=10.0)
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith(("| primary", "| exploratory"))]
    assert len(lines) > 5
    assert all("| 0.000 (0.000 to 0.000) | 1.0000 | 1.0000 |" in line for line in lines)
    assert any(": skill/ink |" in line for line in lines)
    assert len((run / "metrics.csv").read_text().splitlines()) == 1 + len(
        json.loads((run / "result.json").read_text())["metrics"]
    )
    assert "equal to within 10? p = <0.0001" in said
    assert said.count("| primary |") == 1


@pytest.mark.slow
def test_the_skill_is_the_one_that_training_reported(tiny_sd, tiny_clip, roots, tmp_path, caplog):
    more = (
        "--data.init_args.trigger=inkstyle",
        "--data.init_args.held_out=0.2",
        "--model.optimizer.lr=0.01",
    )
    words = fit_words(tiny_sd, tiny_clip, roots[0], tmp_path / "fit", *more, "--data.init_args.resolution=64")
    code, said = run_cli(words)
    assert code == 0, said
    adapter = adapter_file(tmp_path / "fit")
    code, said = run_cli(evaluation_words(tiny_sd, tiny_clip, [adapter], roots[:1], tmp_path / "test", weights="[[1]]"))
    assert code == 0, said
    trained, tested = metrics(tmp_path / "fit")["skill"], metrics(tmp_path / "test")["fit 1: skill/ink"]
    assert abs(trained["value"]) > 1e-3
    for key in ("value", "ci_low", "ci_high", "n"):
        assert tested[key] == pytest.approx(trained[key], rel=1e-3)
    assert "may have been trained on" not in caplog.text


@pytest.mark.usefixtures("run")
def test_held_out_pictures_that_may_have_been_trained_on_are_said(logged):
    """The adapters of these tests name no held-out pictures at all."""
    assert any("ink may have been trained on some of the pictures of ink that it is measured with" in x for x in logged)


@pytest.mark.slow
def test_methods_strengths_and_weights_other_than_1_are_measured_too(words, tmp_path):
    more = ("--model.init_args.methods=[sum, composite]", "--model.init_args.strengths=[0.5, 1]")
    code, said = run_cli(words(tmp_path, *more, weights="[[0.6, 0], [0.6, 0.4]]"))
    assert code == 0, said
    conditions = {name.split(": ")[0] for name in metrics(tmp_path) if "clip_score[" in name}
    assert {
        "base",
        "ink 1",
        "oil 1",
        "ink 0.6",
        "ink 0.6, strength 0.5",
        f"{BLEND}, composite, strength 0.5",
    } <= conditions
    assert len(conditions) == 3 + 2 * 2 * 2
    assert (tmp_path / "grid.png").is_file()


@pytest.mark.slow
def test_one_prompt_and_one_seed_are_measured_as_far_as_they_go(words, tmp_path):
    code, said = run_cli(words(tmp_path, "--data.init_args.prompts=[a cat]", "--data.init_args.samples_per_prompt=1"))
    assert code == 0, said
    found = metrics(tmp_path)
    assert found["ink 1: clip_score[tiny]"]["ci_low"] is None  # one prompt says nothing of how prompts vary
    assert not [name for name in found if name.startswith(("ink 1: kid", "ink 1: diversity"))]


@pytest.mark.slow
def test_the_base_told_in_words_is_an_condition_to_compare_adapters_with(words, run, tmp_path):
    told = '"an ink painting of {}"'
    code, said = run_cli(words(tmp_path, f"--model.init_args.prompt_baselines=[{told}]"))
    assert code == 0, said
    found = metrics(tmp_path)
    own = {name.split(": ")[1] for name in found if name.startswith(told)}
    assert {"clip_score[tiny]", "style[mini-style]/ink", "style[mini-style]/oil", "kid[tiny]/oil"} <= own
    assert not [name for name in own if name.startswith(("skill", "drift", "memorisation"))]
    assert {name: value for name, value in found.items() if not name.startswith(told)} == metrics(run)
    rows = [json.loads(line) for line in (tmp_path / "pictures.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in rows if row["condition"] == told} == {
        f"an ink painting of {content}" for content in ("a cat", "a red boat", "a tree")
    }
    difference = np.stack(pictures(tmp_path, told)).astype(int) - np.stack(pictures(tmp_path, "base"))
    assert np.abs(difference).max() > 2


def test_prompts_do_not_share_their_noise(words, tmp_path, monkeypatch):
    """Else the noise would be a level of its own, which intervals over prompts do not see."""
    asked = []

    def recorded(keys, shape):
        asked.extend(keys)
        return initial_noise(keys, shape)

    monkeypatch.setattr(painter, "initial_noise", recorded)
    assert run_cli(words(tmp_path, adapters=[], weights="[]"))[0] == 0
    assert asked == [f"{content} {seed}" for content in ("a cat", "a red boat", "a tree") for seed in (0, 1)]
    assert not torch.equal(*initial_noise(["a cat 0", "a tree 0"], (4, 8, 8)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--model.init_args.guidance_scales=[1, 2]",), "one guidance scale"),
        (("--model.init_args.prompt_baselines=[an ink painting]",), "needs {} where the content belongs"),
        (("--data.init_args.styles=[]",), "give at least one style, and none twice"),
        (("--evaluate.content=[nowhere/nothing]",), "cannot be loaded"),
        (("--evaluate.inception=gone.pt",), "gone.pt"),
        (("--data.init_args.prompts=[]",), "at least one prompt"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_a_sentence(words, tmp_path, more, said):
    code, output = run_cli(words(tmp_path / "run", *more))
    assert code != 0
    assert said in output
    assert "Traceback" not in output
    assert not (tmp_path / "run" / "pictures").exists()


def test_two_adapters_of_one_style_are_refused_before_any_picture(words, adapter_files, tmp_path):
    (tmp_path / "again").mkdir()
    twin = shutil.copy(adapter_files[0], tmp_path / "again" / "twin.safetensors")
    code, said = run_cli(words(tmp_path / "run", adapters=[adapter_files[0], twin]))
    assert code != 0
    assert "adapters of the same style" in said
    assert not (tmp_path / "run" / "pictures").exists()
