"""The trained adapter, as a file that every program loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from PIL import Image

from stylelora.base.zero_terminal_snr import NOTE, has_zero_terminal_snr
from stylelora.data.images import to_pil
from stylelora.data.scan import content_hash
from stylelora.lora.write import write_lora
from stylelora.records import SampleBatch
from stylelora.runs.folder import adapter_file
from stylelora.runs.notes import shared_name, thumbnail, training_notes
from stylelora.runs.result import git_hash


class SaveAdapter(L.Callback):
    """Writes `NAME.safetensors`, the adapter of the kept epoch, and `NAME-last.safetensors`; NAME is the run folder's.

    They have kohya's key names, which ComfyUI, A1111, Forge, kohya's scripts and diffusers read, and the notes and
    thumbnail that these show; `NAME.preview.png` is the epoch's first sample. The module says which epoch is kept, as
    `val/kept_epoch`. Modules without an adapter are ignored.
    """

    def __init__(self) -> None:
        self.sample: tuple[str, Image.Image] | None = None  # of this epoch: its prompt and picture

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last epoch's sample."""
        del trainer, pl_module
        self.sample = None

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the first sample."""
        del trainer, pl_module
        if isinstance(outputs, SampleBatch) and 0 in outputs.index:
            place = outputs.index.index(0)
            self.sample = outputs.prompts[place], to_pil(outputs.images[place])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter if this epoch is kept."""
        if trainer.callback_metrics.get("val/kept_epoch") != trainer.current_epoch:
            return
        self._save(trainer, pl_module, "", trainer.current_epoch)
        preview = adapter_file(Path(trainer.default_root_dir)).with_suffix(".preview.png")
        if trainer.is_global_zero and self.sample is not None:
            self.sample[1].save(preview)
        elif trainer.is_global_zero:
            preview.unlink(missing_ok=True)  # it would show another epoch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last adapter."""
        self._save(trainer, pl_module, "-last", trainer.current_epoch - 1)

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, which: str, epoch: int) -> None:
        if not trainer.is_global_zero or not hasattr(pl_module, "adapter_layers"):
            return
        hparams, data = pl_module.hparams, trainer.datamodule
        file = adapter_file(Path(trainer.default_root_dir), which)
        notes = training_notes(
            name=file.stem, base=hparams.base, width=pl_module.unet.config.cross_attention_dim,
            prediction=pl_module.scheduler.config.prediction_type, dataset=data.dataset, settings=hparams,
            batch_size=data.batch_size, devices=trainer.world_size, accumulated=trainer.accumulate_grad_batches,
            repeats=data.repeats, epoch=epoch,
            epochs=trainer.max_epochs, steps=trainer.global_step, seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),
        )  # fmt: skip
        notes |= {
            NOTE: str(has_zero_terminal_snr(pl_module.scheduler)),
            "base": shared_name(hparams.base),
            "style": data.style_name,
            "trigger": data.trigger,
            "licence": data.licence,
            "resolution": str(data.resolution),
            "epoch": str(epoch),
            "train_count": str(len(data.train)),
            "held_out_count": str(len(data.held_out)),
            "held_out": content_hash(data.held_out),
            "held_out_skill": f"{float(trainer.callback_metrics.get('val/skill', 'nan')):.6f}",
            "git": git_hash(),
        }
        if self.sample is not None:
            notes |= {"prompt": self.sample[0], "modelspec.thumbnail": thumbnail(self.sample[1])}
        write_lora(file, pl_module.adapter_layers(), notes)
