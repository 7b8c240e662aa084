"""Every config is parsed by the real command line; those in tests/configs/bad must be refused."""

import pytest
import yaml

import callbacks
from benchmarks.memory import GIB, Settings, total_bytes
from stylelora.base.concepts import load_concepts, with_article
from stylelora.base.load import MINI, sampling_recipe
from stylelora.studies.check import Look
from stylelora.studies.plan import write_configs
from stylelora.studies.reading import read_study
from tests.runs import ROOT, holds, run_cli

EVERY = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.name != "defaults.yaml")
STUDIES = [path for path in EVERY if path.stem.startswith("study")]
CONFIGS = [path for path in EVERY if path not in STUDIES]
BAD = sorted((ROOT / "tests" / "configs" / "bad").glob("*.yaml"))
GROUPS = {"checkpoint", "last_checkpoint", *callbacks.GROUPS}


def name_of(path):
    return path.relative_to(ROOT / "configs").as_posix()


@pytest.fixture(scope="module")
def parse():
    """Parse a config without building anything, and look whether the run would get what is written."""
    look = Look()

    def check(path):
        verb = {"compose": "predict", "evaluate": "test"}.get(path.parent.name, "fit")
        assert look([verb, f"--config={path}"]) == ""
        written, parsed = yaml.safe_load(path.read_text()), look.built[verb].config[verb]
        for section in ("model", "data"):  # a run file is complete: nothing comes from elsewhere
            assert parsed[section].class_path.endswith(written[section]["class_path"])
            for name, value in written[section].get("init_args", {}).items():
                assert holds(parsed[section].init_args[name], value), name
        assert parsed.seed_everything == written.get("seed_everything", 0)

    return check


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_config_parses(parse, path):
    parse(path)


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
@pytest.mark.parametrize("path", STUDIES, ids=name_of)
def test_every_run_of_a_study_parses(parse, path, tmp_path, monkeypatch):
    """Those that differ in the seed only differ in nothing else that is parsed; the last of them stands for all."""
    monkeypatch.chdir(ROOT)
    study = read_study(path)
    assert study.test in [path.relative_to(ROOT) for path in CONFIGS]
    for run, file in zip(study.runs, write_configs(study, tmp_path), strict=True):
        if run.seed == study.seeds[-1]:
            parse(file)


def test_each_study_has_a_twin_on_stable_diffusion():
    for path in STUDIES:
        if path.name == "study.yaml":
            twin = yaml.safe_load(path.with_name("study_sd15.yaml").read_text())
            assert twin["like"] == "study.yaml"
            base = yaml.safe_load((ROOT / twin["base"]).read_text())["model"]["init_args"]["base"]
            assert base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
            assert twin["test"].endswith("sd15.yaml")


def test_all_configs_sample_as_their_base_suggests():
    """So samples while training, tests and `predict` of one base can be compared."""
    for path in CONFIGS:
        options = yaml.safe_load(path.read_text())["model"].get("init_args", {})
        if "base" in options:
            steps, guidance_scale = sampling_recipe(MINI) if options["base"] == "mini" else (30, 7.5)
            assert options.get("num_inference_steps", steps) == steps, path
            assert options.get("guidance_scale", guidance_scale) == guidance_scale, path
            assert options.get("guidance_scales", [guidance_scale]) == [guidance_scale], path


def test_there_are_configs_and_each_says_how_to_run_it():
    assert len(CONFIGS) >= 12 and len(STUDIES) >= 16
    for path in EVERY:
        text = path.read_text()
        assert text.startswith("# "), path
        assert f"configs/{name_of(path)}" in text, path


def test_the_index_lists_every_config():
    text = (ROOT / "configs" / "README.md").read_text()
    for folder in ("train", "train/mini"):  # one row for all styles, so that a style needs none of its own
        every = str([name_of(path) for path in CONFIGS if path.parent == ROOT / "configs" / folder])
        text = text.replace(f"{folder}/<style>.yaml", every)
    assert [name_of(path) for path in EVERY if name_of(path) not in text] == []


def test_defaults_name_no_model_and_no_data():
    """Lightning would carry their arguments over into runs that name another class."""
    defaults = yaml.safe_load((ROOT / "configs" / "defaults.yaml").read_text())
    assert set(defaults) <= {"seed_everything", "trainer"} | GROUPS
    assert "trainer" in defaults


def test_styles_differ_in_the_data_class_only():
    for folder in ("train", "train/mini"):
        configs = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs" / folder).glob("*.yaml"))]
        assert len({config["data"].pop("class_path") for config in configs}) == len(configs) >= 4
        assert all(config == configs[0] for config in configs)


def test_cards_differ_in_what_memory_needs():
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "configs/train/sd15").glob("*.yaml")}
    assert set(configs) == {"8gb", "12gb", "24gb"}
    for config in configs.values():
        for option in ("base_dtype", "gradient_checkpointing"):
            config["model"]["init_args"].pop(option, None)
        del config["data"]["init_args"]["sample_batch_size"]
    assert configs["8gb"] == configs["12gb"] == configs["24gb"]


@pytest.mark.slow
@pytest.mark.parametrize("card", ["8gb", "12gb", "24gb"])
def test_the_memory_that_a_config_states_is_what_is_counted(card):
    path = ROOT / "configs" / "train" / "sd15" / f"{card}.yaml"
    counted = total_bytes(Settings.of(yaml.safe_load(path.read_text()))) / GIB
    assert f"# Memory:   {counted:.1f} GiB, estimated" in path.read_text()
    assert counted < int(card.removesuffix("gb")) - 1.5  # CUDA needs room, too


def test_mini_is_judged_on_every_third_thing_it_knows():
    """Chosen by number, so by nobody's taste."""
    things = [with_article(name) for name in load_concepts().values()]
    assert (ROOT / "configs" / "evaluate" / "prompts_mini.txt").read_text().splitlines() == things[1::3]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_config_is_refused(path, tiny_sd, tmp_path, monkeypatch):
    """The file's first line is what must be said."""
    monkeypatch.chdir(tmp_path)
    text = path.read_text()
    message = text.splitlines()[0].removeprefix("# Refused: ")
    config = tmp_path / "bad.yaml"
    config.write_text(text.replace("TINY_SD", str(tiny_sd)))
    status, said = run_cli(["fit", f"--config={config}", "--trainer.accelerator=cpu"])
    assert status != 0
    assert message in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]  # no run folder, no cache


def test_there_are_bad_configs():
    assert len(BAD) >= 7
    assert all(path.read_text().startswith("# Refused: ") for path in BAD)
