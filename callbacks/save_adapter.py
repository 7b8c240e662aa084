"""The trained adapter as a file that diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.data.scan import content_hash
from stylelora.lora.write import save_adapter
from stylelora.runs.result import git_hash


class SaveAdapter(L.Callback):
    """Writes `adapter.safetensors`, the epoch with the highest held-out skill, and `adapter-last.safetensors`.

    Never chosen by the training loss, which falls further the more an adapter learns its pictures by heart. Modules
    without an adapter pass.
    """

    def __init__(self) -> None:
        self.best = float("-inf")

    def state_dict(self) -> dict[str, Any]:
        """Remember the best skill in checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best skill before."""
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter if it is the best so far."""
        skill = trainer.callback_metrics.get("val/skill")
        if trainer.state.fn == "fit" and skill is not None and float(skill) > self.best:
            self.best = float(skill)
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
