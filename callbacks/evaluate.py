"""What `test` measures, and the files it writes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.distributed import gather_rows
from stylelora.evaluation.adapters import doubts, styles_of
from stylelora.evaluation.export import export
from stylelora.evaluation.judges import load_judges
from stylelora.evaluation.measure_all import measure_all
from stylelora.evaluation.page import page
from stylelora.evaluation.pictures import MadePictures, StylePictures
from stylelora.evaluation.summary import summary
from stylelora.files import write
from stylelora.records import Endpoint, Metric
from stylelora.runs.pictures import save_picture, write_grids, write_lines

log = logging.getLogger(__name__)


class Evaluate(L.Callback):
    """Measures the pictures of `test`; writes `evaluation.html` and what was measured of each picture.

    `values.jsonl` has a line for each sampled picture, `losses.jsonl` one for each held-out picture, `metrics.csv` one
    for each metric.

    Every metric carries the name of its judge, since numbers of different judges cannot be compared.

    Args:
        content: CLIP models that judge the content; mini, folders or hub ids, preferably none that is part of the base.
        style: models that judge the style; mini-style, or folders or hub ids of CSD.
        distribution: models that judge how close pictures are to real ones; mini, efficientnet-lite0, or folders or hub
            ids of DINOv2.
        inception: TorchScript file of the Inception of FID; `inception-2015-12-05.pt`; null: no FID.
    """

    def __init__(
        self,
        content: list[str] = ["mini"],  # noqa: B006
        style: list[str] = ["mini-style"],  # noqa: B006
        distribution: list[str] = ["mini"],  # noqa: B006
        inception: str | None = None,
    ) -> None:
        self.names = {"content": content, "style": style, "distribution": distribution}
        self.inception = inception
        self.judges: dict[str, list] = {}
        self.styles: dict[str, str] = {}
        self.rows: list[dict] = []
        self.losses: list[dict] = []
        self.metrics: list[Metric] = []
        self.tests: list[Endpoint] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the judges now, so that a missing one is noticed before hours of sampling."""
        if stage != "test" or self.judges:
            return
        adapters, data = pl_module.adapters, trainer.datamodule.styles
        self.styles = styles_of(adapters, data)
        for doubt in doubts(adapters, data, pl_module.hparams.base, pl_module.painter.picture_side):
            log.warning(doubt)
        self.judges = load_judges(self.names, self.inception, trainer.strategy.root_device)

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Write pictures immediately, and keep the losses."""
        del pl_module
        for row in outputs:
            if "losses" in row:
                self.losses.append(row)
            else:
                self.rows.append(save_picture(row, Path(trainer.default_root_dir)))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather the results of all processes, and measure them in the first."""
        rows, self.rows = gather_rows(self.rows, key="index"), []
        losses, self.losses = gather_rows(self.losses, key="index"), []
        if not rows or not trainer.is_global_zero:
            return
        root, data = Path(trainer.default_root_dir), trainer.datamodule
        write_lines(rows, root / "pictures.jsonl")
        write_grids([row for row in rows if row["trigger"]], root, "condition")
        write_lines(losses, root / "losses.jsonl")
        styles = [
            StylePictures(name, data.images(name, "train"), data.images(name, "held_out")) for name in data.styles
        ]
        found = measure_all(MadePictures.of_rows(rows, self.styles, root), styles, losses, **self.judges)
        self.metrics, self.tests = found.metrics, found.tests
        write_lines(found.lines(), root / "values.jsonl")
        export([metric.as_record() for metric in found.metrics], root / "metrics.csv")
        write(root / "evaluation.html", page(found, styles, root.name))
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{metric}": metric.value for metric in found.metrics}, 0)
        print(summary(found) + f"\nopen {root / 'evaluation.html'}")
