"""The pictures of every epoch, to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.data.images import labelled_grid, to_pil, to_tensor
from stylelora.distributed import gather_objects
from stylelora.records import SampleBatch


class SampleImages(L.Callback):
    """Writes the sampled pictures of an epoch one by one, and as a grid with the base's pictures at the left.

    Files are `samples/epoch=003/000.png ...` and `samples/epoch=003.png` in the run's folder; the grid also goes to
    TensorBoard. Prompts and seeds are the same every epoch, so that grids can be leafed through.
    """

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep a batch of samples; other batches pass."""
        del pl_module
        if isinstance(outputs, SampleBatch) and not trainer.sanity_checking:
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
        rows: list[tuple[str, list]] = []
        for _, (content, seed, image, base_image) in sorted(samples.items()):
            if not rows or seed == samples[0][1]:  # each prompt starts with the first seed
                rows.append((content, []))
            rows[-1][1].extend((base_image, image))
        grid = labelled_grid(rows, columns=["base", "LoRA"] * (len(rows[0][1]) // 2))
        grid.save(folder.with_suffix(".png"))
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("samples", to_tensor(grid), trainer.global_step)
