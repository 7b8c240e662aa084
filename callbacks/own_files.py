"""How Lightning reads and writes checkpoints and `config.yaml`: whole or not at all, and without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins import CheckpointIO

from stylelora.files import about, check_local, write
from stylelora.records import InputError
from stylelora.runs.checkpoint import read_checkpoint, save_checkpoint


class CheckpointFiles(CheckpointIO):
    """Checkpoints as of `stylelora.runs.checkpoint`: with a hash, and only on this machine."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        if storage_options is not None:
            raise InputError("checkpoints are local files, which take no storage_options; leave them out")
        save_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one on the CPU, and nothing but tensors and plain values, whatever is asked for."""
        del map_location, weights_only
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete one, if it is there."""
        check_local(path).unlink(missing_ok=True)


class SaveConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run's folder."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write all settings, also those that are null; of a training without the checkpoint that it went on from.

        So the file, given to `fit`, makes the whole run again.
        """
        del pl_module
        config = self.config.clone()
        if stage == "fit":
            config.ckpt_path = None
        write(Path(trainer.default_root_dir, self.config_filename), self.parser.dump(config, skip_none=False))


class OwnFiles:
    """The part of a LightningCLI that sees to checkpoints."""

    def _parse_ckpt_path(self) -> None:
        """Check a checkpoint before anything is loaded; Lightning would import the classes that it names."""
        if (path := self.config[self.config.subcommand].get("ckpt_path")) not in (None, "best", "last"):
            read_checkpoint(path)

    def _run_subcommand(self, subcommand: str) -> None:
        """Name the run's folder where a library does not say which file it could not write."""
        with about(self.config[subcommand].trainer.default_root_dir):
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Read and write checkpoints our way."""
        plugins = self.config_init[self.subcommand].trainer.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        return super().instantiate_trainer(plugins=[*plugins, CheckpointFiles()], **kwargs)
