"""Every optimiser of docs/how-to/optimisers.md trains, whole runs and resumed ones; a missing package is said."""

import importlib
import json
import re

import pytest
import torch
import yaml
from safetensors.torch import load_file

import cli
from stylelora.lora.average import Average
from stylelora.runs.folder import adapter_file
from stylelora.schedules import averages
from tests.runs import ROOT, fit_words, one_sentence, run_cli, same

PAGE = (ROOT / "docs" / "how-to" / "optimisers.md").read_text()
BLOCKS = dict(re.findall(r"^## (.+?)\n.*?^```yaml\n(.*?)^```", PAGE, flags=re.M | re.S))


def settings_of(name):
    settings = yaml.safe_load(BLOCKS[name])
    pytest.importorskip(settings["optimizer"]["class_path"].split(".")[0])
    return settings


def words_of(settings):
    return [f"--model.{option}={json.dumps(value)}" for option, value in settings.items()]


def test_the_page_has_a_config_of_each_optimiser_in_its_table():
    assert list(BLOCKS) == re.findall(r"^\| \[(.+?)\]\(#", PAGE, flags=re.M)
    assert len(BLOCKS) == 6


class Parser(cli.build_cli()):
    """Builds what a command line names, and no more."""

    def instantiate_classes(self):
        self.built = self.parser.instantiate_classes(self.config)

    def _run_subcommand(self, subcommand):
        pass


@pytest.mark.parametrize("name", BLOCKS)
def test_an_optimiser_is_built_as_written_and_lowers_a_loss(name, tiny_sd, pictures, tmp_path):
    settings = settings_of(name)
    words = [word for word in fit_words(tiny_sd, "null", pictures, tmp_path) if ".lr" not in word]
    module = Parser(words, args=[*words, *words_of(settings)]).built.fit.model
    weight = torch.nn.Parameter(torch.full((8, 8), 0.5))
    optimizer = module.average.follow(module.optimizer([weight]))
    assert (
        f"{type(optimizer).__module__}.{type(optimizer).__name__}".split(".")[0]
        == settings["optimizer"]["class_path"].split(".")[0]
    )
    assert type(module._optimizer()) is type(optimizer)  # of the adapter
    (group,) = optimizer.param_groups
    assert {key: group[key] for key in ("lr", "weight_decay") if key in settings["optimizer"]["init_args"]} == {
        key: value for key, value in settings["optimizer"]["init_args"].items() if key in ("lr", "weight_decay")
    }
    assert module.hparams.optimizer["class_path"].endswith(settings["optimizer"]["class_path"].rpartition(".")[2])
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (weight - 0.4).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_an_optimiser_trains_and_resumes(name, tiny_sd, tiny_clip, pictures, tmp_path):
    words = [*words_of({**settings_of(name), "lr_scheduler": None}), "--model.sample_every_n_epochs=9"]
    for folder, epochs in (("straight", 2), ("halves", 1), ("halves", 2)):
        more = [f"--ckpt_path={tmp_path / 'halves' / 'checkpoints' / 'last.ckpt'}"] if (folder, epochs) == (
            "halves", 2
        ) else []  # fmt: skip
        status, said = run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / folder, *words, *more, epochs=epochs))
        assert status == 0, said
    straight, resumed = (load_file(adapter_file(tmp_path / folder, "-last")) for folder in ("straight", "halves"))
    assert same(straight, resumed)
    assert any(value.abs().max() > 0 for key, value in straight.items() if "lora_up" in key)


class Averaging(torch.optim.SGD):
    """Stands in for a schedule-free optimiser: its evaluated weights are 1 everywhere, its own are not restored."""

    def eval(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(1.0)

    def train(self):
        pass


def test_an_optimisers_average_is_shown_and_leaves_no_trace():
    own = torch.randn(3)
    parameter = torch.nn.Parameter(own.clone())
    average = Average([parameter], None)
    optimizer = average.follow(Averaging([parameter], lr=1.0))
    assert averages(optimizer)
    assert torch.equal(parameter, own)
    with average.shown():
        assert torch.equal(parameter, torch.ones(3))
    assert torch.equal(parameter, own)
    state = average.state_dict()
    assert torch.equal(parameter, own)

    other = torch.nn.Parameter(own.clone())
    validated = Average([other], None)  # `validate` has no optimiser
    validated.load_state_dict(state)
    with validated.shown():
        assert torch.equal(other, torch.ones(3))
    assert torch.equal(other, own)


def test_an_ordinary_optimiser_shows_the_parameters_themselves():
    parameter = torch.nn.Parameter(torch.randn(3))
    average = Average([parameter], None)
    average.follow(torch.optim.SGD([parameter], lr=1.0))
    assert average.state_dict() is None
    before = parameter.detach().clone()
    with average.shown():
        assert torch.equal(parameter, before)


@pytest.mark.parametrize("name", ["prodigyopt.Prodigy", "lion_pytorch.Lion", "bitsandbytes.optim.AdamW8bit"])
def test_a_missing_package_is_named(name, tiny_sd, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, name.split(".")[0], None)  # as if it were not installed
    words = fit_words(tiny_sd, "null", pictures, tmp_path / "runs" / "x", f"--model.optimizer={name}")
    status, said = run_cli(words)
    one_sentence(status, said)
    assert f"pip install {name.split('.')[0].replace('_', '-')}" in said


def test_two_averages_are_refused(tiny_sd, pictures, tmp_path):
    words = ["--model.optimizer=tests.test_optimisers.Averaging", "--model.optimizer.lr=0.1", "--model.ema_decay=0.9"]
    status, said = run_cli(fit_words(tiny_sd, "null", pictures, tmp_path / "runs" / "x", *words))
    one_sentence(status, said[said.index("error: ") :])  # what the optimiser's own options are comes before
    assert "both average" in said
