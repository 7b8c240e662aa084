"""Sample sheets: the pictures of every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.data.images import labelled_grid, save_png, to_pil
from stylelora.distributed import gather_rows
from stylelora.records import SampleBatch
from stylelora.runs.kept import point
from stylelora.runs.loggers import log_picture


class SampleImages(L.Callback):
    """Writes the samples of a validation as files, and as a grid with the base's pictures on the left.

    Files are `samples/epoch=003-step=000064/000.png ...` and `samples/epoch=003-step=000064.png` in the run's folder;
    the grid also goes to loggers that take pictures. Prompts and seeds are always the same, so that grids can be
    compared.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep a batch of samples; ignore other batches."""
        del pl_module
        if isinstance(outputs, SampleBatch) and not trainer.sanity_checking:
            names = ("index", "place", "content", "image", "base_image")
            samples = (outputs.index, outputs.places, outputs.contents, outputs.images, outputs.base_images)
            self.rows += [dict(zip(names, sample, strict=True)) for sample in zip(*samples, strict=True)]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join the pictures of all processes and write them once."""
        del pl_module
        samples, self.rows = gather_rows(self.rows, key="index"), []
        if not samples or not trainer.is_global_zero:
            return
        name = point(trainer.current_epoch, trainer.global_step)
        folder = Path(trainer.default_root_dir, "samples", name)
        for sample in samples:
            save_png(to_pil(sample["image"]), folder / f"{sample['index']:03d}.png")
        by_prompt: dict[int, tuple[str, list]] = {}
        for sample in samples:
            _, row = by_prompt.setdefault(sample["place"], (sample["content"], []))
            row += [sample["base_image"], sample["image"]]
        rows = list(by_prompt.values())
        grid = labelled_grid(rows, columns=["base", "LoRA"] * (len(rows[0][1]) // 2))
        save_png(grid, folder.with_suffix(".png"))
        for logger in trainer.loggers:
            log_picture(logger, "samples", grid, trainer.global_step)
