"""The trained adapter, as a file that every program loads."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L

from stylelora.data.scan import content_hash
from stylelora.lora.write import write_lora
from stylelora.runs.folder import adapter_file
from stylelora.runs.result import git_hash


class SaveAdapter(L.Callback):
    """Writes `NAME.safetensors`, the adapter of the kept epoch, and `NAME-last.safetensors`; NAME is the run folder's.

    They have kohya's key names, which ComfyUI, A1111, Forge, kohya's scripts and diffusers read.

    The module says which epoch that is, as `val/kept_epoch`. Modules without an adapter are ignored.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter if this epoch is kept."""
        if trainer.callback_metrics.get("val/kept_epoch") == trainer.current_epoch:
            self._save(trainer, pl_module, "", trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last adapter."""
        self._save(trainer, pl_module, "-last", trainer.current_epoch - 1)

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, which: str, epoch: int) -> None:
        if not trainer.is_global_zero or not hasattr(pl_module, "adapter_layers"):
            return
        hparams, data = pl_module.hparams, trainer.datamodule
        skill = float(trainer.callback_metrics.get("val/skill", "nan"))
        write_lora(
            adapter_file(Path(trainer.default_root_dir), which),
            pl_module.adapter_layers(),
            metadata={
                "base": hparams.base,
                "style": data.style_name,
                "trigger": data.trigger,
                "resolution": str(data.resolution),
                "epoch": str(epoch),
                "held_out": content_hash(data.held_out),
                "held_out_skill": f"{skill:.6f}",
                "git": git_hash(),
            },
        )
