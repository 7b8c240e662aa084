"""Every config is parsed by the real command line; those in tests/configs/bad must be refused."""

import pytest
import yaml

import callbacks
from benchmarks.memory import GIB, Settings, total_bytes
from stylelora.base.concepts import load_concepts, with_article
from stylelora.base.load import MINI, sampling_recipe
from tests.runs import ROOT, holds, parser_alone, run_cli

CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.name != "defaults.yaml")
BAD = sorted((ROOT / "tests" / "configs" / "bad").glob("*.yaml"))
GROUPS = {"checkpoint", "last_checkpoint", *callbacks.GROUPS}


def name_of(path):
    return path.relative_to(ROOT / "configs").as_posix()


@pytest.fixture(scope="module")
def parse():
    """Parse a config without building anything; return what the run would get."""
    kind = parser_alone()

    def parsed(path):
        verb = {"compose": "predict", "evaluate": "test"}.get(path.parent.name, "fit")
        words = [verb, f"--config={path}"]
        return kind(words, args=words).config[verb]

    return parsed


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_config_parses(parse, path):
    written, parsed = yaml.safe_load(path.read_text()), parse(path)
    for section in ("model", "data"):  # a run file is complete: nothing comes from elsewhere
        assert parsed[section].class_path.endswith(written[section]["class_path"])
        for name, value in written[section].get("init_args", {}).items():
            assert holds(parsed[section].init_args[name], value), name


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
    assert len(CONFIGS) >= 12
    for path in CONFIGS:
        text = path.read_text()
        assert text.startswith("# "), path
        assert f"configs/{name_of(path)}" in text, path


def test_the_index_lists_every_config():
    text = (ROOT / "configs" / "README.md").read_text()
    for folder in ("train", "train/mini"):  # one row for all styles, so that a style needs none of its own
        every = str([name_of(path) for path in CONFIGS if path.parent == ROOT / "configs" / folder])
        text = text.replace(f"{folder}/<style>.yaml", every)
    assert [name_of(path) for path in CONFIGS if name_of(path) not in text] == []


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


@pytest.mark.parametrize(
    ("base", "reference", "sizes"),
    [
        ("mini", "train/mini/watercolor.yaml", [4, 8, 16, 32, 64]),
        ("sd15", "train/watercolor.yaml", [16, 32, 64, 128, 256, 512]),
    ],
)
def test_runs_on_resolution_differ_in_one_value(base, reference, sizes):
    """From one another in source_size, their groups in upscale_kernel, and from the reference run in these two."""
    folder = ROOT / "configs" / "ablations" / "resolution"
    reference, seen = yaml.safe_load((ROOT / "configs" / reference).read_text()), []
    for path in sorted(folder.glob(f"{base}_*.yaml")):
        config = yaml.safe_load(path.read_text())
        options = config["data"]["init_args"]
        seen.append((options.pop("upscale_interpolation"), options.pop("source_size")))
        assert config == reference
        assert path.stem == f"{base}_{seen[-1][0]}_{seen[-1][1]:0{len(str(sizes[-1]))}}"
    assert seen == [(interpolation, size) for interpolation in ("bicubic", "nearest") for size in sizes]


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
