"""The pictures of `predict`, a grid of them, and a list of how each was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L

from stylelora.distributed import gather_rows
from stylelora.runs.pictures import save_picture, write_grids, write_lines


class WritePictures(L.Callback):
    """Writes what a module predicts into the run's folder: `pictures/*.png`, `grid.png` and `pictures.jsonl`.

    Every PNG says how it was made, in the field `parameters` that the common viewers read and as JSON in `stylelora`.
    The grid has a line for each prompt and seed, and the base first; a long one is cut into `grid-2.png` and so on.

    Args:
        columns: what the grid's columns are: label (the blends), method, guidance or strength; the others are lines.
    """

    def __init__(self, columns: Literal["label", "method", "guidance_scale", "strength"] = "label") -> None:
        self.columns = columns
        self.rows: list[dict] = []

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Write a batch's pictures at once: they need no memory then, and a later error does not lose them."""
        del pl_module
        self.rows += [save_picture(row, Path(trainer.default_root_dir)) for row in outputs]

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join the records of all processes; write them and the grid once."""
        del pl_module
        rows, self.rows = gather_rows(self.rows, key="index"), []
        if not rows or not trainer.is_global_zero:
            return
        root = Path(trainer.default_root_dir)
        write_lines(rows, root / "pictures.jsonl")
        grids = write_grids(rows, root, self.columns)
        print(f"{len(rows)} pictures are in {root / 'pictures'}; look at {', '.join(map(str, grids))}")
