"""A training that a signal ends: when, with which exit code, and with a state that goes on as if it had not ended."""

import json
import os
import signal

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks import EndTraining, LastCheckpoint, StopOnSignal, WriteResult
from datamodules.batches import EpochSampler, TrainingLoader

pytestmark = pytest.mark.usefixtures("heard")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Signals(L.LightningModule):
    """Trains one number, four batches an epoch; sends itself signals at places such as ("train", step).

    It remembers every step as (epoch, step, batch), and at which (epoch, step) it was validated.
    """

    def __init__(self, sends=None):
        super().__init__()
        self.number, self.sends = torch.nn.Parameter(torch.ones(())), dict(sends or {})
        self.steps, self.validated = [], []

    def send(self, place):
        if (place, self.global_step) in self.sends:
            os.kill(os.getpid(), self.sends.pop((place, self.global_step)))

    def training_step(self, batch, batch_idx):
        self.send("train")
        self.steps.append((self.current_epoch, self.global_step, batch.tolist()))
        return (self.number * batch).sum() ** 2

    def validation_step(self, batch, batch_idx):
        self.send(f"validation {batch_idx}")
        self.log("val/number", self.number.detach())

    def on_validation_epoch_end(self):
        self.send("scores")
        self.validated.append((self.current_epoch, self.global_step))

    def train_dataloader(self):
        numbers = torch.arange(1.0, 5.0) / 10
        sampler = EpochSampler([(1, 1)] * 4, 1, 1, 0, 0)
        return TrainingLoader(numbers, 1, sampler=sampler, collate_fn=lambda rows: rows[0])

    def val_dataloader(self):
        return DataLoader(torch.ones(2))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def fit(folder, sends=None, resume=False, **options):
    """Return the module, the exit code (0 where it was not stopped) and the result."""
    module, code = Signals(sends), 0
    callbacks = [LastCheckpoint(), EndTraining(), StopOnSignal(), WriteResult()]
    trainer = L.Trainer(
        default_root_dir=folder, callbacks=callbacks, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **{"max_epochs": 3, **options},
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in CODES}
    try:
        trainer.fit(module, ckpt_path=folder / "checkpoints" / "last.ckpt" if resume else None)
    except SystemExit as end:
        code = end.code
    assert {number: signal.getsignal(number) for number in CODES} == before
    return module, code, json.loads((folder / "result.json").read_text())


PLACES = [("train", 0), ("train", 1), ("train", 3), ("train", 5), ("train", 10)]
PLACES += [("validation 0", 4), ("validation 1", 4), ("validation 1", 8), ("scores", 4)]
FAST = [("train", 3), ("train", 5), ("validation 1", 4)]


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}, {"check_val_every_n_epoch": 2}], ids=str)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.slow
def test_a_run_that_was_stopped_anywhere_goes_on_as_if_it_was_not(tmp_path, number, place, options):
    goes_on(tmp_path, number, place, options)


@pytest.mark.parametrize("place", FAST, ids=str)
def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(tmp_path, place):
    goes_on(tmp_path, signal.SIGTERM, place, {})


def goes_on(tmp_path, number, place, options):
    whole, *_ = fit(tmp_path / "whole", **options)
    first, code, result = fit(tmp_path / "run", {place: number}, **options)
    if not first.sends:
        assert (code, result["status"]) == (CODES[number], "cancelled")
        assert result["error"] == ("stopped with Ctrl-C" if number == signal.SIGINT else "stopped by SIGTERM")
    second, code, result = fit(tmp_path / "run", resume=bool(not first.sends), **options)
    assert (code, result["status"]) == (0, "success")
    if not first.sends:
        assert first.steps + second.steps == whole.steps
        validated = dict.fromkeys(first.validated + second.validated)  # a last one that belongs to the run is made anew
        assert [one for one in validated if one in whole.validated] == whole.validated
        more = {*first.validated[-1:]} if number == signal.SIGINT else set()
        assert {*validated} - {*whole.validated} <= more
    assert torch.equal(second.number, whole.number)


def test_sigterm_measures_nothing_more(tmp_path):
    module, code, result = fit(tmp_path, {("train", 5): signal.SIGTERM})
    assert [step for _, step, _ in module.steps] == [0, 1, 2, 3, 4, 5]
    assert module.validated == [(0, 4)]
    assert (code, result["step"]) == (143, 4)


def test_ctrl_c_validates_what_there_is(tmp_path, capsys):
    module, code, result = fit(tmp_path, {("train", 5): signal.SIGINT})
    assert module.validated == [(0, 4), (1, 6)]
    assert (code, result["step"]) == (130, 6)
    assert "Ctrl-C again stops at once" in capsys.readouterr().err


def test_a_second_ctrl_c_ends_the_run_at_once_and_loses_no_step(tmp_path):
    twice = {("train", 5): signal.SIGINT, ("validation 0", 6): signal.SIGINT}
    module, code, _ = fit(tmp_path, twice)
    assert (module.validated, code) == ([(0, 4)], 130)
    second, *_ = fit(tmp_path, resume=True)
    assert second.steps[0][1] == 6


def test_no_step_is_cut_in_two_by_accumulated_gradients(tmp_path):
    options = {"accumulate_grad_batches": 2, "max_epochs": 2}
    whole, *_ = fit(tmp_path / "whole", **options)
    first, *_ = fit(tmp_path / "run", {("train", 1): signal.SIGTERM}, **options)
    assert len(first.steps) == 4
    second, *_ = fit(tmp_path / "run", resume=True, **options)
    assert torch.equal(second.number, whole.number)


def test_ctrl_c_in_the_last_step_lets_the_run_end(tmp_path):
    module, code, result = fit(tmp_path, {("train", 11): signal.SIGINT})
    assert (code, result["status"], module.validated[-1]) == (0, "success", (2, 12))


def test_sigterm_in_the_last_step_leaves_its_validation_to_a_resumed_run(tmp_path):
    module, code, result = fit(tmp_path, {("train", 11): signal.SIGTERM})
    assert (code, result["status"], module.validated[-1]) == (143, "cancelled", (1, 8))
    module, code, result = fit(tmp_path, resume=True)
    assert (code, result["status"], module.validated, module.steps) == (0, "success", [(2, 12)], [])


def test_what_ignores_a_signal_goes_on_ignoring_it(tmp_path):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        module, code, _ = fit(tmp_path, {("train", 2): signal.SIGHUP})
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (code, len(module.steps)) == (0, 12)
