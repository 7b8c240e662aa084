"""The pictures of every epoch, to be looked at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.data.images import labelled_grid, to_pil, to_tensor
from stylelora.distributed import gather_objects
from stylelora.records import InputError, SampleBatch


class SampleImages(L.Callback):
    """Writes the sampled pictures of an epoch one by one, and as a grid with the base's pictures at the left.

    Files are `samples/epoch=003/000.png ...` and `samples/epoch=003.png` in the run's folder; the grid also goes to
    TensorBoard. Prompts and seeds are the same every epoch, so that grids can be leafed through.

    Args:
        every_n_epochs: write in every n-th epoch, and in the last one.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise InputError(f"sample_images.every_n_epochs is {every_n_epochs}; it must be at least 1")
        self.every_n_epochs = every_n_epochs
        self.batches: list[SampleBatch] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the pictures of an earlier run in this folder, unless it is resumed."""
        del pl_module
        folder = Path(trainer.default_root_dir, "samples")
        if trainer.is_global_zero and not trainer.ckpt_path and folder.is_dir():
            shutil.rmtree(folder)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep a batch of samples; other batches pass."""
        del pl_module
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs or trainer.state.fn != "fit"
        if isinstance(outputs, SampleBatch) and due and not trainer.sanity_checking:
            self.batches.append(outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join the pictures of all processes and write them once."""
        del pl_module
        samples = {}
        for batch in (batch for batches in gather_objects(self.batches) for batch in batches):
            rows = zip(batch.contents, batch.seeds, batch.images, batch.base_images, strict=True)
            samples |= dict(zip(batch.index, rows, strict=True))
        self.batches = []
        if not samples or not trainer.is_global_zero:
            return
        name = f"epoch={trainer.current_epoch:03d}"
        folder = Path(trainer.default_root_dir, "samples", name)
        folder.mkdir(parents=True, exist_ok=True)
        for index, (_, _, image, _) in samples.items():
            to_pil(image).save(folder / f"{index:03d}.png")
        rows: dict[str, list] = {}
        for _, (content, _, image, base_image) in sorted(samples.items()):
            rows[content] = [*rows.get(content, []), base_image, image]
        seeds = len(samples) // len(rows)
        grid = labelled_grid(rows, columns=["base", "LoRA"] * seeds)
        grid.save(folder.with_suffix(".png"))
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("samples", to_tensor(grid), trainer.global_step)
