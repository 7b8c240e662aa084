"""A training ends with a validation of what it ends with, whatever ends it."""

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import EndTraining
from stylelora.runs.length import steps_over_epochs


class Counts(L.LightningModule):
    """Trains one number, four batches an epoch; remembers at which (epoch, step) it was validated."""

    def __init__(self):
        super().__init__()
        self.number, self.validated = torch.nn.Parameter(torch.ones(())), []

    def training_step(self, batch, batch_idx):
        return (self.number * batch).sum() ** 2

    def validation_step(self, batch, batch_idx):
        self.log("val/number", self.number.detach())

    def on_validation_epoch_end(self):
        self.validated.append((self.current_epoch, self.global_step))

    def train_dataloader(self):
        return DataLoader(torch.ones(4))

    def val_dataloader(self):
        return DataLoader(torch.ones(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(tmp_path, module=None, ckpt_path=None, **options):
    module = module or Counts()
    trainer = L.Trainer(
        default_root_dir=tmp_path, callbacks=[EndTraining()], accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        **options,
    )  # fmt: skip
    trainer.fit(module, ckpt_path=ckpt_path)
    return trainer, module.validated


@pytest.mark.parametrize(
    ("options", "validated"),
    [
        ({"max_epochs": 2}, [(0, 4), (1, 8)]),
        ({"max_steps": 6, "max_epochs": -1}, [(0, 4), (1, 6)]),
        ({"max_steps": 8, "max_epochs": -1}, [(0, 4), (1, 8)]),
        (
            {"max_steps": 6, "max_epochs": -1, "val_check_interval": 3, "check_val_every_n_epoch": None},
            [(0, 3), (1, 6)],
        ),
        ({"max_steps": 7, "max_epochs": -1, "val_check_interval": 0.5}, [(0, 2), (0, 4), (1, 6), (1, 7)]),
        ({"max_epochs": 4, "check_val_every_n_epoch": 3}, [(2, 12), (3, 16)]),
        ({"max_epochs": 3, "accumulate_grad_batches": 4, "check_val_every_n_epoch": 2}, [(1, 2), (2, 3)]),
    ],
)
def test_the_last_steps_are_validated_once(tmp_path, options, validated):
    assert fit(tmp_path, **options)[1] == validated


def test_so_are_those_before_the_time_is_over(tmp_path):
    trainer, validated = fit(tmp_path, max_epochs=10**6, max_time={"seconds": 0.2}, check_val_every_n_epoch=10**5)
    assert [step for _, step in validated] == [trainer.global_step] != [0]


def test_the_bar_knows_how_many_epochs_the_steps_take(tmp_path):
    assert fit(tmp_path, max_steps=6, max_epochs=-1)[0].max_epochs == 2
    assert fit(tmp_path, max_steps=3, max_epochs=-1, accumulate_grad_batches=3)[0].max_epochs == 2


@pytest.mark.parametrize("more", [9, 10, 13])
def test_a_resumed_run_makes_all_its_steps(tmp_path, more):
    """The first part ended within an epoch, which counts as one."""
    first, _ = fit(tmp_path, max_steps=6, max_epochs=-1)
    first.save_checkpoint(tmp_path / "six.ckpt")
    resumed, validated = fit(tmp_path, max_steps=more, max_epochs=-1, ckpt_path=tmp_path / "six.ckpt")
    assert resumed.global_step == validated[-1][1] == more
    assert resumed.max_epochs == validated[-1][0] + 1


class Options:
    """Stands in for the parsed options of a trainer."""

    def __init__(self, max_steps=-1, max_epochs=10):
        self.max_steps, self.max_epochs = max_steps, max_epochs


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (["--trainer.max_steps=20"], -1),
        (["--trainer.max_steps", "20"], -1),
        (["--trainer.max_steps=20", "--trainer.max_epochs=3"], 10),
        (["--config=a.yaml"], 10),
    ],
)
def test_steps_on_the_command_line_are_not_capped_by_a_configs_epochs(words, epochs, capsys):
    options = Options(max_steps=20)
    steps_over_epochs(options, words)
    assert options.max_epochs == epochs
    assert ("max_epochs 10 does not apply" in capsys.readouterr().err) == (epochs == -1)
