"""The trained adapter, as a file that diffusers can load."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L

from stylelora.data.scan import content_hash
from stylelora.lora.write import save_adapter
from stylelora.runs.result import git_hash


class SaveAdapter(L.Callback):
    """Writes `adapter.safetensors`, the adapter of the kept epoch, and `adapter-last.safetensors`.

    The module says which epoch that is, as `val/kept_epoch`. Modules without an adapter are ignored.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter if this epoch is kept."""
        if trainer.callback_metrics.get("val/kept_epoch") == trainer.current_epoch:
            self._save(trainer, pl_module, "adapter.safetensors", trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last adapter."""
        self._save(trainer, pl_module, "adapter-last.safetensors", trainer.current_epoch - 1)

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, name: str, epoch: int) -> None:
        if not trainer.is_global_zero or not hasattr(pl_module, "adapter_state"):
            return
        hparams, data = pl_module.hparams, trainer.datamodule
        skill = float(trainer.callback_metrics.get("val/skill", "nan"))
        save_adapter(
            Path(trainer.default_root_dir, name),
            pl_module.adapter_state(),
            rank=hparams.rank,
            alpha=hparams.alpha,
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
