"""Which settings a run may change when it goes on, and how the others are refused."""

import pytest
import torch

from stylelora.records import InputError, Picture
from stylelora.runs.settings import (
    changes,
    check_adapter,
    check_changes,
    check_names,
    said,
    serious,
    settings_of_data,
    settings_of_run,
)

ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}


def config(**more):
    """Settings of a run as `config.yaml` has them; options by their names on the command line, with _ for the dot."""
    model = {"base": "mini", "rank": 4, "alpha": None, "optimizer": ADAMW, "lr_scheduler": None, "keep": "balanced"}
    model |= {"lora": {"rank_pattern": {}, "use_rslora": False}}
    data = {"root": "a", "batch_size": 2, "flip": False, "num_workers": 0, "trigger": None}
    trainer = {"max_epochs": 2, "precision": "32-true", "devices": 1, "default_root_dir": "runs/x", "logger": True}
    whole = {"seed_everything": 0, "ckpt_path": None, "checkpoint": {"dirpath": "runs/x", "mode": "max"}}
    for name, value in more.items():
        section, _, option = name.partition("_")
        {"model": model, "data": data, "trainer": trainer, "whole": whole}[section][option] = value
    model, data = {"class_path": "a.Model", "init_args": model}, {"class_path": "a.Data", "init_args": data}
    return whole | {"model": model, "data": data, "trainer": trainer}


def differing(devices=1, **more):
    return changes(settings_of_run(config(), 1), settings_of_run(config(**more), devices))


def test_settings_have_the_names_of_the_command_line():
    assert settings_of_run(config(), 2) == {
        "seed_everything": 0, "checkpoint.mode": "max", "model": "a.Model", "model.base": "mini", "model.rank": 4,
        "model.alpha": None, "model.optimizer": "torch.optim.AdamW", "model.optimizer.lr": 1e-3,
        "model.optimizer.betas": [0.9, 0.99], "model.lr_scheduler": None, "model.keep": "balanced",
        "model.lora.use_rslora": False, "data": "a.Data", "data.root": "a", "data.batch_size": 4, "data.flip": False,
        "data.num_workers": 0, "data.trigger": None, "trainer.max_epochs": 2, "trainer.precision": "32-true",
        "trainer.devices": 1, "trainer.logger": True,
    }  # fmt: skip
    assert differing() == {}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"trainer_max_epochs": 20}, "trainer.max_epochs 20 (was 2)"),
        ({"data_num_workers": 4, "data_root": "moved"}, "data.num_workers 4 (was 0), data.root moved (was a)"),
        ({"model_keep": "last"}, "model.keep last (was balanced)"),
        ({"model_start": 0.2}, "model.start 0.2 (was null)"),
        ({"trainer_logger": False}, "trainer.logger False (was True)"),
        ({"trainer_precision": 32}, ""),
        ({"trainer_default_root_dir": "elsewhere"}, ""),
        ({"devices": 2, "data_batch_size": 1, "trainer_devices": 2}, "trainer.devices 2 (was 1)"),
    ],
)
def test_harmless_changes_are_said(options, line):
    assert serious(differing(**options)) == {}
    assert said(differing(**options)) == line


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"model_optimizer": {**ADAMW, "init_args": {**ADAMW["init_args"], "lr": 5e-4}}}, ["model.optimizer.lr"]),
        ({"model_optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}}, ["model.optimizer"]),
        ({"model_lr_scheduler": {"class_path": "s.Schedule", "init_args": {"warmup": 3}}}, ["model.lr_scheduler"]),
        ({"model_alpha": 8.0}, ["model.alpha"]),
        ({"whole_seed_everything": 1}, ["seed_everything"]),
        ({"trainer_precision": "bf16-mixed"}, ["trainer.precision"]),
        ({"trainer_accumulate_grad_batches": 2}, ["trainer.accumulate_grad_batches"]),
        ({"data_batch_size": 4, "data_flip": True}, ["data.batch_size", "data.flip"]),
        ({"devices": 2}, ["data.batch_size"]),
    ],
)
def test_others_are_refused_with_both_values_unless_they_are_named(options, names):
    found = serious(differing(**options))
    assert [name for name in found if name != "model.lr_scheduler.warmup"] == names
    with pytest.raises(InputError) as refused:
        check_changes(found, [])
    for name in names:
        before, now = found[name]
        assert f"{name} {'null' if before is None else before}, now {now}" in str(refused.value)
    assert str(refused.value).endswith(f"--resume_allow {','.join(found)}")
    check_changes(found, names)
    check_changes(found, ["all"])
    check_changes(found, [name.rpartition(".")[2] for name in names])
    if len(names) > 1:
        with pytest.raises(InputError, match=names[1]):
            check_changes(found, names[:1])


@pytest.mark.parametrize(
    "options",
    [{"model_rank": 8}, {"model_lora": {"rank_pattern": {"conv1": 8}, "use_rslora": False}}, {"model_init_from": "a"}],
)
def test_what_the_weights_are_cannot_be_allowed(options):
    with pytest.raises(InputError, match=r"weights are those of other settings.*--model.init_from"):
        check_changes(serious(differing(**options)), ["all"])


def test_a_file_that_training_began_with_may_be_gone():
    before, now = (settings_of_run(config(model_init_from=file), 1) for file in ("a.safetensors", None))
    assert serious(changes(before, now)) == {}


def test_which_pictures_are_trained_on_is_compared_by_what_they_are():
    """So a checkpoint that is older than these options goes on."""
    now = settings_of_run(config(data_name="ink", data_pictures=None, data_pictures_seed=0), 1)
    assert serious(changes(settings_of_run(config(), 1), now)) == {}


def test_a_name_that_is_no_setting_is_refused_but_one_that_did_not_change_is_none():
    check_names(["lr", "model.optimizer", "all", "flip"], settings_of_run(config(), 1))
    with pytest.raises(InputError, match=r"data\.flp, which is no setting of this run, did you mean 'data\.flip'"):
        check_names(["data.flp"], settings_of_run(config(), 1))


def test_a_checkpoint_is_validated_with_its_own_adapter():
    check_adapter(differing(data_batch_size=8, model_optimizer=None, whole_seed_everything=3))
    with pytest.raises(InputError, match=r"model\.alpha null, now 8\.0; take the config\.yaml of its run"):
        check_adapter(differing(model_alpha=8.0))


class Data:
    """As much of a data module as is looked at."""

    def __init__(self, *pictures, trigger="zqx"):
        self.trigger, self.masks, self.framing, self.wording, self.dataset, self.prior = (
            trigger,
            None,
            self,
            self,
            self,
            self,
        )
        self.template, self.interpolation, self.train, self.held_out, self.pictures = "{text}", "box", pictures, [], []


def picture(number, text="a cat", repeats=1):
    return Picture(folder=None, name=f"{number}", text=text, sha256=f"{number}", group="", size=(1, 1), repeats=repeats)


def test_pictures_captions_repeats_order_and_masks_are_the_data(monkeypatch):
    monkeypatch.setattr(Picture, "path", property(lambda one: one.name))
    base = settings_of_data(None, Data(picture(1), picture(2)))
    assert base["data.pictures"].startswith("2 pictures (")
    for other in (
        Data(picture(1), picture(3)), Data(picture(1), picture(2, "a dog")), Data(picture(1), picture(2, repeats=2)),
        Data(picture(2), picture(1)), Data(picture(1)),
    ):  # fmt: skip
        assert [*changes(base, settings_of_data(None, other))] == ["data.pictures"]
    assert [*changes(base, settings_of_data(None, Data(picture(1), picture(2), trigger="b")))] == ["data.trigger"]
    assert changes(base, settings_of_data(None, Data(picture(1), picture(2)))) == {}
    masked = Data(picture(1), picture(2))
    masked.masks = masked
    masked.sources = {"1": "grey a"}
    assert [*changes(base, settings_of_data(None, masked))] == ["data.pictures"]


def test_the_weights_of_the_base_count_in_any_type_but_not_those_of_its_adapter():
    def weights(change=None, dtype=torch.float32):
        torch.manual_seed(0)
        model = torch.nn.Module()
        model.unet = torch.nn.ModuleDict({"to_q": torch.nn.Linear(3, 3), "lora_A": torch.nn.Linear(3, 3)})
        if change is not None:
            model.unet[change].bias.data += 1
        return settings_of_data(model.to(dtype), None)

    assert weights() == weights(dtype=torch.bfloat16) == weights("lora_A")
    assert weights() != weights("to_q")
