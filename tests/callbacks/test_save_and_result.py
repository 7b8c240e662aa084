"""The adapter that is kept, and result.json."""

import dataclasses
import json
import math
import signal
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import SaveAdapter, WriteResult
from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from stylelora.lora.factors import Layer
from stylelora.lora.lora_file import read_lora
from stylelora.records import Metric, Quantity
from stylelora.runs.folder import adapter_file
from stylelora.runs.kept import Kept
from stylelora.runs.result import write_result


def test_the_best_adapter_is_that_of_the_highest_skill(tiny_sd, pictures, tmp_path, caplog):
    module = StyleLoRA(base=str(tiny_sd), rank=4)
    start = module.adapter_layers()
    data = StyleDataModule(str(pictures), trigger="zqx", resolution=64, held_out=0.4)
    data.dataset.scan()
    data.dataset.choose_sizes(64)
    module.adapter_layers = lambda: {
        name: Layer(one.down + trainer.current_epoch, one.up, one.alpha) for name, one in start.items()
    }
    trainer = SimpleNamespace(
        default_root_dir=tmp_path,
        is_global_zero=True,
        ckpt_path=None,
        state=SimpleNamespace(fn="fit"),
        accumulate_grad_batches=1,
        global_step=5,
        world_size=1,
        max_epochs=5,
        sanity_checking=False,
        optimizers=[module.configure_optimizers()],
        datamodule=data,
    )
    callback, kept = SaveAdapter(), Kept("skill")
    for epoch, (skill, loss) in enumerate([(0.1, 3.0), (0.3, 2.0), (0.3, 2.0), (0.2, 1.0), (math.nan, 0.5)]):
        trainer.current_epoch, trainer.global_step = epoch, 5 * epoch + 5
        trainer.callback_metrics = {"val/skill": torch.tensor(skill), "train/loss": torch.tensor(loss)}
        trainer.callback_metrics["val/kept_step"] = torch.tensor(float(kept.offer(epoch, 5 * epoch + 5, skill, None)))
        callback.on_validation_end(trainer, module)
    callback.on_train_end(trainer, module)

    def offset(which):
        saved = read_lora(adapter_file(tmp_path, which)).layers
        return {round((saved[name].down - one.down).mean().item(), 3) for name, one in start.items()}

    assert offset("") == {1.0}
    assert offset("-last") == {4.0}
    assert (kept.epoch, kept.step) == (1, 10)

    resumed = Kept(**dataclasses.asdict(kept))
    trainer.callback_metrics = {"val/kept_step": torch.tensor(float(resumed.offer(4, 25, 0.25, None)))}
    SaveAdapter().on_validation_end(trainer, module)
    assert offset("") == {1.0}

    module.adapter_layers = lambda: {name: Layer(one.down * 1e-12, one.up, one.alpha) for name, one in start.items()}
    trainer.current_epoch, trainer.global_step = 5, 30
    trainer.callback_metrics = {"val/kept_step": torch.tensor(float(resumed.offer(5, 30, 0.4, None)))}
    SaveAdapter(dtype="float16").on_validation_end(trainer, module)
    assert "are too small for float16; " in caplog.text, "a layer that has hardly learned ends no training"
    saved = read_lora(adapter_file(tmp_path)).layers
    assert all(torch.equal(saved[name].down, one.down * 1e-12) for name, one in start.items())


class Breaks(L.LightningModule):
    """Trains one number; stops in the second epoch."""

    metrics = [Metric(0.5, -math.inf, math.inf, 1, Quantity("skill"), True)]

    def __init__(self, error):
        super().__init__()
        self.number, self.error = torch.nn.Parameter(torch.ones(())), error
        self.kept = Kept("skill")

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and self.error:
            raise self.error
        return self.number**2

    def validation_step(self, batch, batch_idx):
        kept = self.kept.offer(self.current_epoch, self.global_step, self.metrics[0].value, None)
        self.log("val/kept_step", float(kept))

    def train_dataloader(self):
        return DataLoader(torch.ones(1))

    val_dataloader = train_dataloader

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RuntimeError("out of paint"), "failed", "RuntimeError: out of paint"),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt: "),
        (None, "success", None),
    ],
)
def test_a_run_that_ends_early_says_so(tmp_path, error, status, message):
    trainer = L.Trainer(
        default_root_dir=tmp_path, callbacks=[WriteResult()], max_epochs=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    handler = signal.getsignal(signal.SIGINT)
    try:
        if error is None:
            trainer.fit(Breaks(error))
        else:
            with pytest.raises((RuntimeError, SystemExit)):
                trainer.fit(Breaks(error))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores a second Ctrl+C
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["status"], record["error"]) == (status, message)
    assert record["epochs"] == (1 if error else 2)
    assert record["epoch"] == 0
    (skill,) = record["metrics"]
    assert skill == {
        "condition": None,
        "measure": "skill",
        "judge": None,
        "style": None,
        "at": [],
        "value": 0.5,
        "ci_low": None,
        "ci_high": None,
        "n": 1,
        "higher_is_better": True,
    }
    assert record["config"] is None


def test_infinite_settings_are_texts_in_the_result(tmp_path):
    """Such as Prodigy's growth_rate; JSON has no infinity."""
    (tmp_path / "config.yaml").write_text("model: {init_args: {growth_rate: .inf, betas: [0.9, .nan]}}")
    given = {"status": "success", "error": None, "seconds": 1.0, "epoch": 0, "epochs": 1, "dataset": None}
    write_result(tmp_path, **given, metrics=[])
    record = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert record["config"]["model"]["init_args"] == {"growth_rate": "inf", "betas": [0.9, "nan"]}
