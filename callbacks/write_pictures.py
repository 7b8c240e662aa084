"""Output of `predict`: pictures, a grid of them, and a record of how each was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as L

from stylelora.distributed import gather_rows
from stylelora.runs.pictures import save_picture, write_grids, write_lines


class WritePictures(L.Callback):
    """Writes the predicted pictures into the run's folder: `pictures/*.png`, `grid.png` and `pictures.jsonl`.

    Every PNG records how it was made: in the field `parameters`, which common viewers read, and as JSON in `stylelora`.
    The grid has a row for each prompt and seed, and the base first; a long one goes on in `grid-2.png` and so on.

    Args:
        columns: grid columns: label, method, guidance_scale or strength; label is the blend, and everything else goes
            into rows.
    """

    def __init__(self, columns: Literal["label", "method", "guidance_scale", "strength"] = "label") -> None:
        self.columns = columns
        self.rows: list[dict] = []

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Write a batch's pictures immediately: they free their memory, and a later error does not lose them."""
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
        print(f"{len(rows)} pictures are in {root / 'pictures'}; open {', '.join(map(str, grids))}")
