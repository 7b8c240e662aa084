"""The pictures of `predict`, a grid of them, and a list of how each was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylelora.data.images import labelled_grid, to_pil, to_tensor
from stylelora.distributed import gather_rows


class WritePictures(L.Callback):
    """Writes what a module predicts into the run's folder: `pictures/*.png`, `grid.png` and `pictures.jsonl`.

    Every PNG says how it was made, in the field `parameters` that the common viewers read and as JSON in `stylelora`.
    The grid has a row for each prompt, seed and method, and a column for each blend, the base first.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Write a batch's pictures at once: they need no memory then, and a later error does not lose them."""
        del pl_module
        folder = Path(trainer.default_root_dir, "pictures")
        folder.mkdir(parents=True, exist_ok=True)
        for output in outputs:
            row = {name: value for name, value in output.items() if name not in ("index", "image")}
            name = "{:03d}-{:02d}.png".format(*output["index"])
            height, width = output["image"].shape[1:]
            to_pil(output["image"]).save(folder / name, pnginfo=_described(row, width, height))
            self.rows.append({"index": output["index"], "file_name": f"pictures/{name}", **row})

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join the records of all processes; write them and the grid once."""
        del pl_module
        rows, self.rows = gather_rows(self.rows, key="index"), []
        if not rows or not trainer.is_global_zero:
            return
        root = Path(trainer.default_root_dir)
        lines, columns, base, grid = [], ["base"], {}, {}
        for row in rows:
            place, arm = row.pop("index")
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            with Image.open(root / row["file_name"]) as picture:
                image = to_tensor(picture)
            if arm == 0:
                base[place] = image
                continue
            heading = f"{row['content']}, seed {row['seed']}, {row['method']}"
            grid.setdefault((place, row["method"]), (heading, [base[place]]))[1].append(image)
            if len(grid) == 1:
                columns.append(row["label"])
        (root / "pictures.jsonl").write_text("".join(lines), encoding="utf-8")
        labelled_grid(list(grid.values()), columns).save(root / "grid.png")
        print(f"{len(lines)} pictures are in {root / 'pictures'}; look at {root / 'grid.png'}")


def _described(row: dict, width: int, height: int) -> PngInfo:
    """Return text for a PNG in the form that AUTOMATIC1111's web UI introduced and viewers of pictures read."""
    size = {
        "Steps": row["steps"],
        "Sampler": row["scheduler"],
        "CFG scale": row["guidance"],
        "Seed": row["seed"],
        "Size": f"{width}x{height}",
    }
    words = ", ".join(f"{name}: {value}" for name, value in (size | {"Model": row["base"]}).items())
    info = PngInfo()
    info.add_itxt("parameters", f"{row['prompt']}\n{words}, Blend: {row['label']}, Method: {row['method']}")
    info.add_itxt("stylelora", json.dumps(row, ensure_ascii=False))
    return info
