"""The command line: help at once, and bad input refused in one sentence that leaves nothing behind."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import time
import typing

import pytest

import cli
from stylelora.console.renamed import GROUPED, OPTIONS, PLACES
from stylelora.console.screens import options_of, usage
from stylelora.console.verbs import SECTIONS, VERBS
from stylelora.preprocess.preprocess import preprocess
from stylelora.studies.check import parser_alone
from tests.runs import ROOT, fit_words, one_sentence, run_cli

QUICK = ["fit", f"--config={ROOT / 'configs' / 'quickstart.yaml'}"]
COMPOSE = ["predict", f"--config={ROOT / 'configs' / 'compose' / 'one.yaml'}"]


def python(*words, cwd=ROOT, timeout=120):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout, env=dict(os.environ)
    )


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_comes_at_once(words):
    started = time.monotonic()
    run = python("-X", "importtime", "cli.py", *words)
    assert time.monotonic() - started < 3
    assert run.returncode == 0
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "pathlib" in loaded  # the listing was read
    assert not loaded & {"torch", "lightning", "diffusers", "transformers", "jsonargparse", "numpy"}
    for verb in ("fit", "validate"):
        assert f"\n  {verb} " in run.stdout
    assert "configs/quickstart.yaml" in run.stdout


HEAVY = {"torch", "lightning", "diffusers", "transformers", "jsonargparse", "numpy"}


@pytest.mark.parametrize("words", [["fit", "--help"], ["study", "--help"], ["train"], ["fit", "--config", "no.yaml"]])
def test_answers_that_need_no_work_load_nothing_heavy(words):
    run = python("-X", "importtime", "cli.py", *words)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "ast" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_screen(verb, capsys):
    cli.main([verb, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert 8 <= len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"usage: python cli.py {verb}")
    assert any(line.startswith((f"python cli.py {verb} --", f"python cli.py {verb} FILE")) for line in lines)
    assert lines[-1].endswith("--help_all")
    for line in lines:
        if line.startswith("  --"):
            assert len(line.split(maxsplit=1)) == 2, f"{line} says nothing"


def classes():
    shown = [(verb, section, dotted, names) for verb, rows in SECTIONS.items() for (section, dotted), names in rows]
    return [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in shown]


@pytest.mark.parametrize(("verb", "section", "dotted", "names"), classes())
def test_what_is_read_as_text_is_what_python_sees(verb, section, dotted, names):
    module, _, name = dotted.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    read = {option.name.removeprefix(f"--{section}."): option for option in options_of(dotted, f"--{section}.")}
    assert list(read) == list(parameters)
    assert set(names) <= set(parameters)
    for name, parameter in parameters.items():
        assert read[name].text, f"{name} of {dotted} is not documented"
        if isinstance(parameter.default, int | float | str) and not isinstance(parameter.default, bool):
            assert read[name].default == str(parameter.default)


def test_help_shows_defaults_and_choices(capsys):
    cli.main(["fit", "--help"])
    said = capsys.readouterr().out
    assert re.search(r"--model.rank .*\[16\]", said)
    assert re.search(r"--model.guidance_scale .*\[depends on the base\]", said)
    assert re.search(r"--trainer.devices .*\[1\]", said)  # from configs/defaults.yaml
    cli.main(["preprocess", "--help"])
    said = capsys.readouterr().out
    assert re.search(r"--interpolation .*nearest, box, bilinear, bicubic, lanczos", said)


def test_everything_is_said_on_demand(capsys):
    assert run_cli(["predict", "--help_all"]) == (0, "")
    said = capsys.readouterr().out
    assert "--model.prompt_baselines\n" in said  # ours, which Lightning's list leaves out
    assert "--trainer.limit_predict_batches" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "there is no verb 'train', did you mean 'fit'?"),
        (["interferance"], "did you mean 'interference'?"),
        (["--config", "x"], "give a verb before --config"),
        (["fit"], "there is no data and no model; name a config with --config"),
        (["fit", "--config"], "--config needs a file"),
        (["fit", "--config", "configs"], "--config: configs is a folder"),
        (["fit", "--config=no.yaml"], "--config: no.yaml does not exist; configs/README.md lists"),
        (["fit", "--ckpt_path", "no.ckpt"], "--ckpt_path: no.ckpt does not exist"),
        ([*QUICK, "--model.rnak=8"], "StyleLoRA has no option 'rnak', did you mean 'rank'?"),
        ([*QUICK, "--model.rank=abc"], "model.rank is abc; give a whole number"),
        ([*QUICK, "--data.prompts=a fox"], "data.prompts is a fox; give a list, as in [a fox]"),
        ([*QUICK, "--data.prompts=[a {red} fox]"], "give a list, and put a text with braces or a colon into quotes"),
        ([*QUICK, "--data.prompts=[a fox: red]"], "give a text, and put a text with braces or a colon into quotes"),
        ([*QUICK, "--modle.rank=8"], "python cli.py fit has no section 'modle', did you mean 'model'?"),
        ([*QUICK, "--data=datamodules.Watercolour"], "no class datamodules.Watercolour, did you mean 'Watercolor'?"),
        ([*QUICK, "stray"], "stray does not belong to an option"),
        ([*QUICK, "--trainer.accelerator=tpu"], "Requirement 'torch_xla"),
        ([*QUICK, "--trainer.max_epoch=5"], "no option 'trainer.max_epoch', did you mean 'trainer.max_epochs'?"),
        (["merge", "--adapter", "1"], "python cli.py merge has no option 'adapter', did you mean 'adapters'?"),
        (["merge", "--wieghts", "1"], "python cli.py merge has no option 'wieghts', did you mean 'weights'?"),
        (["study", "no.yaml"], "no.yaml cannot be read (No such file or directory); give a file that can"),
        (["study"], "--file is missing"),
    ],
)
def test_mistakes_get_one_sentence(words, message, tmp_path):
    status, said = run_cli([*words, f"--trainer.default_root_dir={tmp_path}/run"] if words[:2] == QUICK else words)
    one_sentence(status, said)
    assert message in said
    assert not list(tmp_path.iterdir())
    if "verb" in message:
        assert all(verb in said for verb in VERBS)


@pytest.mark.parametrize("old", OPTIONS)
def test_an_old_option_is_told_its_new_name(old):
    """On the command line of whoever had it; in YAML: tests/configs/bad/old_name.yaml."""
    words = {"arms": ["compare", "--runs", "a", "b"], "words": COMPOSE, "guidances": COMPOSE}.get(old, QUICK)
    section = {"arms": "", "kernel": "data.", "upscale_kernel": "data."}.get(old, "model.")
    status, said = run_cli([*words, f"--{section}{old}=1"])
    one_sentence(status, said)
    assert f"'{old}' is now called '{OPTIONS[old]}'" in said
    owner = {"compare": "stylelora.evaluation.compare.compare", "predict": "lightning_modules.ComposedStyles"}
    fit = "datamodules.StyleDataModule" if section == "data." else "lightning_modules.StyleLoRA"
    first = OPTIONS[old].split(".")[0]  # options of a class behind it are the class's
    assert f"--{first}" in [option.name for option in options_of(owner.get(words[0], fit))]


def test_a_module_that_cannot_be_imported_says_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text("import not_installed\n\n__all__ = ['Model']\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, said = run_cli([*QUICK, "--model=own_module.Model"])
    one_sentence(status, said)
    assert "own_module cannot be imported: No module named 'not_installed'" in said


@pytest.mark.parametrize("old", GROUPED)
def test_an_option_of_preprocess_is_told_its_group(old):
    group, _, name = GROUPED[old].partition(".")
    status, said = run_cli(["preprocess", "--source=a", "--style=b", f"--{old}=1"])
    one_sentence(status, said)
    assert f"'{old}' is now called '{GROUPED[old]}'" in said
    assert name in typing.get_type_hints(preprocess)[group].__dataclass_fields__


@pytest.mark.parametrize("old", PLACES)
def test_an_old_place_is_told_its_new_one(old):
    words = {
        "configs/mini": ["fit", "--config=configs/mini/generator.yaml"],
        "lightning_modules.mini": [*QUICK, "--model=lightning_modules.mini.Generator"],
        "datamodules.mini": [*QUICK, "--data=datamodules.mini.Icons"],
        "datamodules.Evaluation": [*COMPOSE, "--data=datamodules.Evaluation"],
    }[old]
    status, said = run_cli(words)
    one_sentence(status, said)
    assert f"{old} is now {PLACES[old]}" in said


def test_the_verbs_of_the_help_are_those_of_the_parser():
    whole = parser_alone()([], args=QUICK)
    assert all(f"\n  {verb} " in usage() for verb in whole._subcommand_parsers)
    assert set(whole._subcommand_parsers) == {*cli.TRAINED}
    assert list(parser_alone()(QUICK, args=QUICK)._subcommand_parsers) == ["fit"], "each takes a while to build"
    assert set(VERBS) == {*cli.TRAINED, *cli.FUNCTIONS}


def test_options_are_explained():
    status, said = run_cli(["fit", "--model.help", "lightning_modules.StyleLoRA"])
    assert (status, said) == (0, "")


# Bad input. Each case changes a good run in one thing.


def test_an_error_of_ours_is_not_dressed_up_as_the_users(tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch):
    """A defect must show its traceback."""

    def broken(*_):
        raise ValueError("a defect")

    monkeypatch.setattr("stylelora.data.dataset.scan_folder", broken)
    with pytest.raises(ValueError, match="a defect"):
        run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "runs" / "bad"))


@pytest.mark.slow
def test_a_process_of_its_own_says_the_same(tiny_sd, tiny_clip, pictures, tmp_path):
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "runs" / "bad", "--model.rank=0")
    run = python(str(ROOT / "cli.py"), *words, cwd=tmp_path)
    assert run.returncode == 1
    assert [line for line in run.stderr.splitlines() if "Seed set" not in line] == [
        "error: LoRA rank must be at least 1, got 0."
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_named_after_its_config(tiny_sd, tiny_clip, pictures, tmp_path, monkeypatch):
    """runs/<path below configs/>, from whatever directory; other files by their own name."""

    class Parser(cli.build_cli()):
        def instantiate_classes(self):
            pass

        def _run_subcommand(self, subcommand):
            self.before_instantiate_classes()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text((ROOT / "configs" / "quickstart.yaml").read_text())
    for config, want in {
        ROOT / "configs" / "train" / "mini" / "anime.yaml": "runs/train/mini/anime",
        tmp_path / "mine.yaml": "runs/mine",
    }.items():
        got = Parser(args=["fit", f"--config={config}"]).config.fit
        assert got.trainer.default_root_dir == want
        assert got.checkpoint.dirpath == f"{want}/checkpoints"
        assert got.trainer.logger.init_args.save_dir == want
