"""The settings of a run, in its checkpoints; and those that were changed, in a run that goes on from one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.runs.settings import Changes, settings_of_data
from stylelora.schedules import go_to

log = logging.getLogger(__name__)
#: Options of an optimiser that a schedule may change.
SCHEDULED = {"lr", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "momentum", "betas"}
RATES = ("model.lr", "model.plateau", "model.lora_plus_ratio", "model.text_encoder.learning_rate")
GROUPING = RATES[2:]  # from or to null they change which weights are in which group


class RecordSettings(L.Callback):
    """Writes what a run is into its checkpoints, as `run`, with which a run that goes on is compared.

    The states of optimiser and schedule in a checkpoint have their settings with them. Where others were allowed, the
    rate is what it would be at this step if they had been there from the beginning.

    Args:
        record: id and settings of the run.
        changed: settings that differ from the checkpoint's.
    """

    def __init__(self, record: dict[str, Any], changed: Changes) -> None:
        self.record = record
        self.anew = "model.optimizer" in changed or any(None in changed.get(name, ()) for name in GROUPING)
        self.options = {name.rpartition(".")[2] for name in changed if name.startswith("model.optimizer.")}
        schedule = any(name.split(".")[:2] == ["model", "lr_scheduler"] for name in changed)
        if self.anew or schedule or "lr" in self.options or not changed.keys().isdisjoint(RATES):
            self.options |= SCHEDULED
        self.counts: list[int] = []
        self.groups: list[list[dict]] = []

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave out states of an optimiser and a schedule that are others now; follow a folder that was moved."""
        del pl_module
        for callback in trainer.checkpoint_callbacks:
            if (state := checkpoint["callbacks"].get(callback.state_key)) and "best_model_path" in state:
                _follow(state, callback.dirpath)
        if trainer.state.fn != "fit" or not self.options:
            return
        states = checkpoint["lr_schedulers"]
        self.counts = [state["last_epoch"] for state in states] or [checkpoint["global_step"]]
        if "lr" in self.options:
            checkpoint["lr_schedulers"] = []
        if self.anew:
            checkpoint["optimizer_states"] = []
            log.warning("the optimizer starts anew, for the checkpoint's is another")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the new settings, before those of the checkpoint take their place."""
        del pl_module
        if not self.counts:
            return
        if "lr" in self.options:
            for config, count in zip(trainer.lr_scheduler_configs, self.counts, strict=False):
                go_to(config.scheduler, count)
        kept = [[dict(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        self.groups = kept

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the new settings take effect, and record what data there are."""
        for optimizer, groups in zip(trainer.optimizers, self.groups, strict=False):
            for group, new in zip(optimizer.param_groups, groups, strict=True):
                group.update({name: new[name] for name in self.options & new.keys()})
        self.record["found"] = settings_of_data(pl_module, trainer.datamodule)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record."""
        del trainer, pl_module
        checkpoint["run"] = self.record


def _follow(state: dict[str, Any], folder: str | None) -> None:
    """Let the state of a ModelCheckpoint name its files where they are now; else it would take none for the best."""

    def here(path: str) -> str:
        moved = Path(folder or "", Path(path).name)
        return str(moved) if path and moved.is_file() else path

    if (best := here(state.get("best_model_path", ""))) != state.get("best_model_path", ""):
        names = ("last_model_path", "kth_best_model_path")
        state |= {name: here(state[name]) for name in names} | {"dirpath": folder, "best_model_path": best}
        state["best_k_models"] = {here(path): score for path, score in state["best_k_models"].items()}
