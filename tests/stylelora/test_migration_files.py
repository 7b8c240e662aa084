"""Whole configs of other trainers: each setting is accounted for once, and what is written is a config of ours."""

import re
import sys
import types

import pytest
import yaml

from stylelora.migration.migrate import migrate
from tests import migrating
from tests.foreign import FILES, content, leaves, named, parse, stand_in
from tests.runs import draw_pictures, holds, run_cli

LINE = re.compile(r"#   (\S+) = ")
#: Settings that stay whole in the report though they hold others.
WHOLE = ("optimizer_defaults", "secrets", "vae", "meta")


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request):
    return request.param


@pytest.fixture
def written(file, tmp_path):
    """The text that is written for a file."""
    migrate(str(file), str(tmp_path / "ours.yaml"))
    return (tmp_path / "ours.yaml").read_text()


@pytest.fixture
def stand_ins(monkeypatch):
    """Optimisers of packages that are not installed for tests: their names, and AdamW's mathematics."""
    for path in ("bitsandbytes.optim.AdamW8bit", "prodigyopt.Prodigy", "lion_pytorch.Lion"):
        module, _, name = path.rpartition(".")
        for part in (module.split(".")[0], module):
            monkeypatch.setitem(sys.modules, part, sys.modules.get(part) or types.ModuleType(part))
        monkeypatch.setattr(sys.modules[module], name, stand_in(module, name), raising=False)


def test_there_is_a_file_of_each_dialect():
    assert {path.suffix for path in FILES} == {".toml", ".json", ".yaml"}
    gui, onetrainer = (
        max(len(named(path)) for path in FILES if mark in content(path)) for mark in ("LoRA_type", "unet")
    )
    assert gui > 250 and onetrainer > 100


def test_each_setting_of_a_file_has_one_line(file, written):
    report = written.split("# Not in the file")[0]
    lines = LINE.findall(report)
    wanted = [next((whole for whole in WHOLE if name.startswith(f"{whole}.")), name) for name in named(file)]
    assert sorted(lines) == sorted({name: None for name in wanted})
    assert len(lines) == len(set(lines))


def test_a_setting_that_nobody_knows_is_said(tmp_path):
    config = tmp_path / "a.toml"
    config.write_text('pretrained_model_name_or_path = "b"\nnetwork_dim = 4\nlearning_rate = 1e-4\nspeling = 3\n')
    migrate(str(config), str(tmp_path / "ours.yaml"))
    unknown = (tmp_path / "ours.yaml").read_text().split("# Unknown here, so left out:")[1]
    assert LINE.findall(unknown)[0] == "speling"


def test_secrets_are_hidden(file, written):
    secrets = [value for name, value in leaves(content(file)) if name.endswith(("api_key", "token")) and value]
    assert [secret for secret in secrets if secret in written] == []


def test_the_program_says_what_is_not_supported(file, tmp_path, capsys):
    migrate(str(file), str(tmp_path / "ours.yaml"))
    said, text = capsys.readouterr().out, (tmp_path / "ours.yaml").read_text()
    for line in re.findall(r"# Not supported; what to do:\n((?:#   .*\n)*)", text):
        assert [one for one in re.findall(r"#   (.*)\n", line) if one not in said] == []
    assert said.endswith(f"python cli.py fit --config {tmp_path / 'ours.yaml'}\n")


@pytest.mark.filterwarnings("ignore:.*LightningCLI's args parameter.*")
def test_what_is_written_parses_to_what_it_says(file, tmp_path, stand_ins):
    migrate(str(file), str(tmp_path / "ours.yaml"))
    written = yaml.safe_load((tmp_path / "ours.yaml").read_text())
    gpu = written["trainer"]["precision"] == "16-mixed" and written["trainer"].pop("precision")
    parsed = parse(tmp_path / "ours.yaml", *["--trainer.precision=32-true"] * bool(gpu))
    assert parsed["seed_everything"] == written.pop("seed_everything", 0)
    for section, settings in written.items():
        inside = "init_args" in settings
        for name, value in (settings["init_args"] if inside else settings).items():
            found = parsed[section].init_args if inside else parsed[section]
            assert holds(found[name], value), (section, name)


def test_the_page_of_the_manual_shows_the_tables():
    """If not: `python -m tests.migrating`."""
    assert migrating.page() == migrating.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_is_written_trains(file, tmp_path, tiny_sd, tiny_clip):
    migrate(str(file), str(tmp_path / "ours.yaml"))
    config = yaml.safe_load((tmp_path / "ours.yaml").read_text())
    config["model"]["init_args"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}}
    config["model"]["init_args"]["lr_scheduler"]["init_args"].pop("warmup", None)  # longer than this run
    config["trainer"].pop("logger", None)  # as of some optimisers, the package is not installed
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(config))
    pictures = draw_pictures(tmp_path / "pictures")
    small = {"model.base": tiny_sd, "model.init_from": "null", "model.num_inference_steps": 2, "model.clip_skip": 1}
    small |= {"data.root": pictures, "data.resolution": 64, "data.batch_size": 2, "data.no_upscale": "false"}
    small |= {"data.prompts_file": "null", "data.prompts": "[a cat]", "data.prior.root": "null"}
    small |= {"data.prior.weight": 1.0, "data.cache": tmp_path / "cache", "clip_score.scorer": tiny_clip}
    small |= {"trainer.max_steps": 3, "trainer.max_epochs": -1, "trainer.accelerator": "cpu", "trainer.devices": 1}
    small |= {"trainer.precision": "32-true", "model.base_dtype": "float32", "trainer.accumulate_grad_batches": 1}
    small |= {"trainer.enable_progress_bar": "false", "trainer.default_root_dir": tmp_path / "run"}
    small |= {"trainer.val_check_interval": "null", "trainer.check_val_every_n_epoch": 1}
    status, said = run_cli(["fit", f"--config={tmp_path / 'ours.yaml'}", *(f"--{k}={v}" for k, v in small.items())])
    assert status == 0, said
    assert (tmp_path / "run" / "run.safetensors").is_file()
