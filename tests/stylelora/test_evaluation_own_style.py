"""A test of adapters without a config: what it takes, by what the files and the folders beside them say."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stylelora.data.scan import content_hash
from stylelora.data.styles import STYLES
from stylelora.evaluation.adapters import doubts, styles_of
from stylelora.evaluation.own_style import with_style
from stylelora.lora.read import Adapter
from stylelora.records import InputError
from stylelora.studies.check import parser_alone
from tests.runs import ROOT, draw_pictures, evaluation_words, fit_words, metrics_of, run_cli

CONFIGS = ROOT / "configs"
OURS = {"base": "mini", "style": "ink", "trigger": "inkstyle", "resolution": "64", "held_out_share": "0.3"}


@pytest.fixture
def write(adapter_files, tmp_path):
    """Write an adapter with other notes, in a folder of its own."""

    def write(name="mine", notes=OURS, run=None):
        folder = tmp_path / name
        folder.mkdir()
        save_file(load_file(adapter_files[0]), folder / f"{name}.safetensors", notes)
        if run is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(run))
        return folder / f"{name}.safetensors"

    return write


def words_of(*files, more=()):
    return ["test", f"--model.adapters={json.dumps([str(file) for file in files])}", *more]


def read(words):
    """The options of a command line that begins with what was filled in; the last of each counts."""
    return dict(word.split("=", 1) for word in with_style(words, CONFIGS)[1:])


def styles(words):
    return json.loads(read(words)["--data.styles"])


def trained_on(root, **options):
    data = {"root": root, "resolution": 64, "held_out": 0.4, "buckets": True, "prompts": ["a cat"], "cache": "x"}
    return {"model": {"init_args": {"base": "mini"}}, "data": {"class_path": "my.Style", "init_args": data | options}}


def test_a_folder_is_taken_with_what_the_file_notes(write):
    file = write()
    found = read(words_of(file, more=["--style", "ink=somewhere"]))
    (style,) = json.loads(found.pop("--data.styles"))
    assert style["class_path"] == "datamodules.StyleDataModule"
    assert style["init_args"] == {
        "name": "ink", "root": "somewhere", "resolution": 64, "trigger": "inkstyle", "held_out": 0.3
    }  # fmt: skip
    assert found == {
        "--config": f"{CONFIGS}/evaluate/one_mini.yaml",
        "--model.base": "mini",
        "--model.weights": "[[1.0]]",
        "--model.adapters": json.dumps([str(file)]),
        "--trainer.default_root_dir": "runs/evaluate/mine",
    }


def test_the_config_beside_it_says_how_it_was_trained(write, tmp_path):
    data = draw_pictures(tmp_path / "data", 1)
    file = write(run=trained_on(str(data), source_size=16), notes=OURS | {"held_out_share": "0.4"})
    (style,) = styles(words_of(file))
    as_trained = {"root": str(data), "resolution": 64, "held_out": 0.4, "buckets": True, "source_size": 16}
    assert style == {"class_path": "my.Style", "init_args": as_trained | {"name": "ink", "trigger": "inkstyle"}}
    assert read(words_of(file))["--trainer.default_root_dir"] == f"{file.parent}/test"
    last = file.rename(file.with_name("mine-last.safetensors"))
    assert read(words_of(last))["--trainer.default_root_dir"] == f"{file.parent}/test-last"
    (style,) = styles(words_of(last, more=["--style=ink=~/moved/to"]))
    assert style["init_args"]["root"] == str(Path.home() / "moved/to") and style["init_args"]["buckets"]


def test_a_style_that_comes_along_is_known_by_its_name_and_trigger(write):
    known = STYLES["pixelart"]
    notes = OURS | {"style": "pixelart", "trigger": known.trigger}
    (style,) = styles(words_of(write(notes=notes)))
    assert style["init_args"] | {"root": str(known.folder), "interpolation": "nearest"} == style["init_args"]
    with pytest.raises(InputError, match="name them: --style pixelart=FOLDER"):
        with_style(words_of(write("other", notes | {"trigger": "zqx"})), CONFIGS)


def test_pictures_are_looked_for_where_preprocess_writes_them(write, tmp_path, monkeypatch):
    file = write()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "ink").mkdir(parents=True)
    assert styles(words_of(file))[0]["init_args"]["root"] == "data/ink"
    assert styles(words_of(file, more=["--style=ink=x"]))[0]["init_args"]["root"] == "x"
    with pytest.raises(InputError, match="was trained on all pictures of its style"):
        with_style(words_of(write("all", OURS | {"held_out_count": "0"})), CONFIGS)


def test_a_file_of_another_program_needs_no_notes_of_ours(write):
    kohya = {"modelspec.trigger_phrase": "zqx", "ss_resolution": "(512, 512)", "ss_clip_skip": "2"}
    found = read(words_of(write(notes=kohya), more=["--style=any=there", "--model.base=some/base"]))
    (style,) = json.loads(found["--data.styles"])
    assert style["init_args"] == {
        "name": "any", "root": "there", "resolution": 512, "trigger": "zqx", "held_out": 0.2
    }  # fmt: skip
    assert found["--config"].endswith("one_sd15.yaml")
    assert found["--model.clip_skip"] == "2"
    silent = read(words_of(write("silent", {"a": "b"}), more=["--style=any=there", "--model.base=mini"]))
    (style,) = json.loads(silent["--data.styles"])
    assert style["init_args"]["template"] == "{text}"  # captions get no trigger, as the prompts


def test_each_of_several_adapters_is_tested_alone(write):
    files = write("a"), write("b", OURS | {"style": "oil"})
    found = read(words_of(*files, more=["--style=oil=x", "--style=ink=y"]))
    assert json.loads(found["--model.weights"]) == [[1, 0], [0, 1]]
    named = [(one["init_args"]["name"], one["init_args"]["root"]) for one in json.loads(found["--data.styles"])]
    assert named == [("ink", "y"), ("oil", "x")]
    assert found["--trainer.default_root_dir"] == "runs/evaluate/a+b"


def test_the_command_line_wins(write):
    own = ["--model.base=elsewhere/base", "--trainer.default_root_dir=here", "--data.prompts=[a fox]"]
    found = read(words_of(write(), more=[*own, "--style=ink=x"]))
    assert (found["--model.base"], found["--trainer.default_root_dir"]) == ("elsewhere/base", "here")
    assert found["--data.file"] == "null"
    styles = ["--data.styles=[]"]
    assert read(words_of(write("b"), more=styles))["--data.styles"] == "[]"


def test_with_a_config_only_the_pictures_are_named(write, tmp_path):
    config = tmp_path / "test.yaml"
    config.write_text(yaml.safe_dump({"model": {"init_args": {"adapters": [str(write())]}}}))
    words = ["test", "--config", str(config), "--style", "ink=x"]
    *rest, style = with_style(words, CONFIGS)
    assert rest == words[:3] and json.loads(style.partition("=")[2])[0]["init_args"]["root"] == "x"
    whole = [["--config", "any.yaml"], ["--model=A", "--data=B", "--model.adapters=[x]"], [], ["--model.adapters=[]"]]
    for words in (["fit", "--model.adapters=[x]"], *(["test", *more] for more in whole)):
        assert with_style(words, CONFIGS) == words


@pytest.mark.parametrize(
    ("notes", "run", "more", "message"),
    [
        (OURS, None, [], "is not known here; name them: --style ink=FOLDER"),
        (OURS, trained_on("gone"), [], "was trained on gone, which is not here; give --style ink=FOLDER"),
        (OURS, None, ["--style=oil=x"], "no adapter is of the style oil: mine is of ink; give --style the name of one"),
        (OURS | {"base": "sd"}, None, ["--style=ink=x"], "its base, sd, which is not here; give it with --model.base"),
        (OURS | {"style": "a" * 300}, None, [], "is not known here"),  # longer than a file's name may be
        (OURS | {"base": "a" * 300}, None, ["--style=ink=x"], "which is not here; give it with --model.base"),
        ({"style": "ink"}, None, ["--style=ink=x"], "names no base; give it with --model.base"),
        (OURS | {"held_out_count": "0"}, trained_on("."), [], "so none is left to measure with; give others"),
        (OURS, None, ["--style=ink"], "--style needs a name and a folder of pictures, such as"),
        (OURS, None, ["--style=ink=x", "--style=ink=y"], "--style names ink twice"),
        (OURS, None, ["--style=ink=x", "--data.styles=[]"], "both name the pictures; give one of them"),
    ],
)
def test_what_cannot_be_told_is_said(write, notes, run, more, message):
    with pytest.raises(InputError) as caught:
        with_style(words_of(write(notes=notes, run=run), more=more), CONFIGS)
    assert message in str(caught.value)


def test_adapters_of_several_bases_need_one_named(write):
    files = write("a"), write("b", OURS | {"style": "oil", "base": "owner/other"})
    with pytest.raises(InputError, match=r"several bases \(a on mini, b on owner/other\); name one with --model.base"):
        with_style(words_of(*files, more=["--style=oil=x", "--style=ink=y"]), CONFIGS)


@pytest.mark.parametrize(
    ("verb", "message"), [("fit", "--style is an option of test; fit has none"), ("test", "needs adapters to test")]
)
def test_styles_belong_to_tests_of_adapters(verb, message):
    with pytest.raises(InputError, match=message):
        with_style([verb, "--style=a=b"], CONFIGS)


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
def test_the_parser_takes_what_is_filled_in(write, pictures, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = with_style(words_of(write(), more=[f"--style=ink={pictures}"]), CONFIGS)
    found = parser_alone()(words, args=words).config.test
    (style,) = found.data.init_args.styles
    assert (style.init_args.name, style.init_args.root) == ("ink", str(pictures))
    assert found.data.init_args.file == "configs/evaluate/prompts_mini.txt"
    assert found.evaluate.content == ["mini"]


def test_an_adapter_without_notes_is_of_the_style_that_is_left():
    a, b = Adapter("a", {}, {}, "", {}), Adapter("b", {}, {}, "", {"style": "ink"})
    assert styles_of([a, b], ["ink", "oil"]) == {"a": "oil", "b": "ink"}
    assert styles_of([a, b], ["ink", "oil", "chalk"])["a"] == "a"  # it could be either
    assert styles_of([a, b], ["ink", "oil", "a"])["a"] == "a"


class Data:
    trigger, resolution, held_out = "zqx", 512, []


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({"ss_resolution": "(256, 256)"}, "a was trained with resolution 256, not 512"),
        ({"modelspec.trigger_phrase": "other"}, "a was trained with trigger other, not zqx"),
        ({"ss_resolution": "(512, 512)", "modelspec.trigger_phrase": "zqx"}, None),
        ({}, None),
    ],
)
def test_what_another_program_notes_is_compared_too(notes, said):
    adapter = Adapter("a", {}, {}, "", {"trigger": "zqx", "style": "ink", "held_out": content_hash([])} | notes)
    found = list(doubts([adapter], {"ink": Data}, "any", 512))
    assert found == ([] if said is None else [f"{said}; the test differs"])


@pytest.mark.slow
def test_a_trained_adapter_is_tested_without_a_config(tiny_sd, tiny_clip, tmp_path, monkeypatch, caplog):
    """With the numbers that the same test has whose config names everything."""
    root, folder = draw_pictures(tmp_path / "ink", 45), tmp_path / "run"
    trained = ["--data.trigger=inkstyle", "--data.held_out=0.2", "--data.resolution=64"]
    status, said = run_cli([*fit_words(tiny_sd, tiny_clip, root, folder), *trained])
    assert status == 0, said
    file = folder / "run.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["held_out_share"] == "0.2"
    small = ["--model.num_inference_steps=2", "--data.prompts=[a cat, a red boat, a tree]", "--model.resolution=64",
             f"--evaluate.content=[{tiny_clip}]", f"--evaluate.distribution=[{tiny_clip}]",
             "--evaluate.style=[mini-style]", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
             "--data.samples_per_prompt=2", "--data.batch_size=16"]  # fmt: skip
    monkeypatch.chdir(ROOT)
    assert run_cli(["test", f"--model.adapters=[{file}]", *small])[0] == 0
    whole = evaluation_words(tiny_sd, tiny_clip, [file], [root], tmp_path / "whole", *small, weights="[[1]]")
    assert run_cli(whole)[0] == 0
    own, whole = metrics_of(folder / "test"), metrics_of(tmp_path / "whole")
    assert own == whole and any("skill" in name for name in own)
    assert "was trained with" not in caplog.text
    assert run_cli(["test", f"--model.adapters=[{file}]", *small, "--model.triggers=[zqx]"])[0] == 0
    assert "run was trained with trigger inkstyle, not zqx; the test differs" in caplog.text
    assert Path(f"{folder}/test.1").is_dir()
