"""Settings that a person changes take effect in a run that goes on; those of its checkpoint would else win."""

import lightning.pytorch as L
import pytest
import torch

from callbacks import RecordSettings
from stylelora.schedules import Schedule, with_schedule


class Line(L.LightningModule):
    """One number, four steps an epoch; remembers what each step was made with."""

    def __init__(self, make, schedule=None):
        super().__init__()
        self.weight, self.make, self.schedule = torch.nn.Parameter(torch.ones(1)), make, schedule
        self.groups = []

    def training_step(self, batch, batch_idx):
        (group,) = self.trainer.optimizers[0].param_groups
        self.groups.append({key: value for key, value in group.items() if key != "params"})
        return (self.weight - batch).square().mean()

    def configure_optimizers(self):
        optimizer = self.make([self.weight])
        return with_schedule(optimizer, self.schedule, self.trainer.estimated_stepping_batches)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.arange(4.0))


def fit(folder, module, epochs, changed=(), resume=False):
    callback = RecordSettings({"id": "a"}, {name: values for name, values in dict(changed).items()})
    trainer = L.Trainer(
        default_root_dir=folder, callbacks=[callback], max_epochs=epochs, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, ckpt_path=folder / "one.ckpt" if resume else None)
    if not resume:
        trainer.save_checkpoint(folder / "one.ckpt")
    return [group["lr"] for group in module.groups], module


def adamw(lr, **more):
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, **more)


def line(lr, **more):
    return adamw(lr), (lambda optimizer, total_steps: Schedule(optimizer, total_steps=16, **more))


def torch_steps(lr, gamma):
    return adamw(lr), (lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma))


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ((adamw(0.1),), (adamw(0.3),), ["model.optimizer.lr"]),
        (line(0.1, shape="linear"), line(0.3, shape="linear"), ["model.optimizer.lr"]),
        (line(0.1, shape="linear"), line(0.1, shape="cosine", warmup=6), ["model.lr_scheduler.shape"]),
        (torch_steps(0.1, 0.5), torch_steps(0.3, 0.5), ["model.optimizer.lr"]),
        (torch_steps(0.1, 0.5), torch_steps(0.1, 0.9), ["model.lr_scheduler.gamma"]),
        ((adamw(0.1),), line(0.1, shape="cosine"), ["model.lr_scheduler"]),
        (line(0.1, shape="linear"), (adamw(0.1),), ["model.lr_scheduler"]),
        (line(0.1, shape="linear"), torch_steps(0.2, 0.5), ["model.lr_scheduler", "model.optimizer.lr"]),
    ],
)
def test_a_new_rate_or_schedule_is_where_it_would_be_by_now(before, after, changed, tmp_path):
    fit(tmp_path, Line(*before), epochs=1)
    state = torch.load(tmp_path / "one.ckpt", weights_only=True)["optimizer_states"][0]["state"][0]
    straight, _ = fit(tmp_path / "other", Line(*after), epochs=2)
    resumed, module = fit(tmp_path, Line(*after), 2, dict.fromkeys(changed, (1, 2)), resume=True)
    assert resumed == pytest.approx(straight[4:], rel=1e-12)
    old, _ = fit(tmp_path, Line(*after), 2, resume=True)
    assert old != pytest.approx(straight[4:], rel=1e-3), "without a word the checkpoint wins"
    assert state["step"] == 4
    assert module.trainer.optimizers[0].state[module.weight]["step"] == 8  # it goes on with its moments


def test_other_options_of_an_optimizer_take_effect_alone(tmp_path):
    schedule = line(0.1, shape="linear")[1]
    fit(tmp_path, Line(adamw(0.1, weight_decay=0.5), schedule), epochs=1)
    straight, _ = fit(tmp_path / "other", Line(adamw(0.1), schedule), epochs=2)
    module = Line(adamw(0.1, weight_decay=0.25, betas=(0.5, 0.6)), schedule)
    resumed, _ = fit(tmp_path, module, 2, {"model.optimizer.weight_decay": (0.5, 0.25)}, resume=True)
    assert resumed == straight[4:]
    assert {(group["weight_decay"], group["betas"]) for group in module.groups} == {(0.25, (0.9, 0.999))}


def test_another_optimizer_starts_anew_with_the_weights_of_the_checkpoint(tmp_path, caplog):
    _, first = fit(tmp_path, Line(adamw(0.1)), epochs=1)
    module = Line(lambda parameters: torch.optim.SGD(parameters, lr=0.2, momentum=0.9))
    rates, _ = fit(tmp_path, module, 2, {"model.optimizer": ("a", "b")}, resume=True)
    assert rates == [0.2] * 4
    assert "starts anew" in caplog.text
    by_hand = first.weight.detach().clone().requires_grad_()
    sgd = torch.optim.SGD([by_hand], lr=0.2, momentum=0.9)
    for batch in torch.arange(4.0):
        sgd.zero_grad()
        (by_hand - batch).square().mean().backward()
        sgd.step()
    assert torch.equal(by_hand, module.weight)


def test_a_checkpoint_records_its_run(tmp_path):
    fit(tmp_path, Line(adamw(0.1)), epochs=1)
    assert torch.load(tmp_path / "one.ckpt", weights_only=True)["run"] == {"id": "a", "found": {}}


def test_without_a_change_nothing_is_touched(tmp_path):
    make = line(0.1, shape="cosine")
    straight = fit(tmp_path / "other", Line(*make), epochs=2)
    fit(tmp_path, Line(*make), epochs=1)
    resumed = fit(tmp_path, Line(*make), 2, {"trainer.max_epochs": (1, 2)}, resume=True)
    assert resumed[0] == straight[0][4:] and torch.equal(resumed[1].weight, straight[1].weight)


def test_checkpoints_of_a_folder_that_was_moved_are_still_the_best(tmp_path):
    """Else the next one would be saved as the best, whatever it is."""

    def keeping(folder, epochs, resume=None):
        class Scored(Line):
            def on_train_epoch_end(self):
                self.log("score", float(-self.current_epoch))  # the first is the best

        best = L.callbacks.ModelCheckpoint(folder / "checkpoints", "best", monitor="score", mode="max")
        last = L.callbacks.ModelCheckpoint(folder / "checkpoints", "last", monitor="step", mode="max")
        trainer = L.Trainer(
            default_root_dir=folder, callbacks=[best, last, RecordSettings({"id": "a"}, {})], max_epochs=epochs,
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Scored(adamw(0.1)), ckpt_path=resume)

    keeping(tmp_path / "one", 2)
    (tmp_path / "one").rename(tmp_path / "two")
    keeping(tmp_path / "two", 3, tmp_path / "two" / "checkpoints" / "last.ckpt")
    epochs = {
        name: torch.load(tmp_path / "two" / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    }
    assert epochs == {"best": 0, "last": 2}
    assert not (tmp_path / "one").exists()
