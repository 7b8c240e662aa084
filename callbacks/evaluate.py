"""Numbers of `test` that a reviewer can check."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.data.scan import content_hash
from stylelora.distributed import gather_rows
from stylelora.evaluation.evaluate import evaluate
from stylelora.evaluation.evaluation import Style, conditions_of
from stylelora.evaluation.page import page, summary
from stylelora.metrics.encoders import ClipEncoder
from stylelora.metrics.image_encoders import load_image_encoder
from stylelora.metrics.inception import Inception
from stylelora.records import InputError, Metric
from stylelora.runs.pictures import read_picture, save_picture, write_grids, write_lines

log = logging.getLogger(__name__)


class Evaluate(L.Callback):
    """Measures what `test` makes; writes `evaluation.html`, and a line for each picture.

    `values.jsonl` has what was measured of each picture that was made, `losses.jsonl` the losses of each held-out one.

    Every metric carries the name of the network that judged, for numbers of two networks cannot be compared.

    Args:
        content: CLIPs that judge what pictures show: mini, folders or hub ids, best none that the generator contains.
        style: judge in which style: mini-style, or folders or hub ids of CSD.
        distribution: judge how far sets of pictures are apart: mini, efficientnet-lite0, folders or hub ids of DINOv2.
        inception: TorchScript file of the Inception of FID (`inception-2015-12-05.pt`); null: no FID.
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
        self.metrics: dict[str, Metric] = {}
        self.tests: dict[str, dict] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the judges now: that one is missing should be known before hours of sampling."""
        if stage != "test" or self.judges:
            return
        self.styles = _styles_of(pl_module, trainer.datamodule)
        device = trainer.strategy.root_device
        self.judges["content"] = [ClipEncoder(name, device) for name in self.names["content"]]
        for role in ("style", "distribution"):
            self.judges[role] = [load_image_encoder(name, device) for name in self.names[role]]
        if self.inception is not None:
            self.judges["distribution"].append(Inception(self.inception, device))

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Write pictures at once, and keep losses."""
        del pl_module
        for row in outputs:
            if "losses" in row:
                self.losses.append(row)
            else:
                self.rows.append(save_picture(row, Path(trainer.default_root_dir)))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join what all processes made, and measure it in one."""
        rows, self.rows = gather_rows(self.rows, key="index"), []
        losses, self.losses = gather_rows(self.losses, key="index"), []
        if not rows or not trainer.is_global_zero:
            return
        root, data = Path(trainer.default_root_dir), trainer.datamodule
        styles = [Style(name, data.images(name, "train"), data.images(name, "held_out")) for name in data.styles]
        write_lines(rows, root / "pictures.jsonl")
        write_grids([row for row in rows if row["trigger"]], root, "condition")
        write_lines(losses, root / "losses.jsonl")
        images = [read_picture(root / row["file_name"]) for row in rows]
        found = evaluate(conditions_of(rows, self.styles, images), styles, losses, **self.judges)
        self.metrics, self.tests = found.metrics, found.tests
        write_lines(found.lines(), root / "values.jsonl")
        (root / "evaluation.html").write_text(page(found, styles, root.name), encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{name}": metric.value for name, metric in found.metrics.items()}, 0)
        print(summary(found) + f"\nlook at {root / 'evaluation.html'}")


def _styles_of(module: L.LightningModule, data: L.LightningDataModule) -> dict[str, str]:
    """Return the style of each adapter: what its file says, or else its name; what cannot be measured is said.

    Raises:
        InputError: if two adapters are of one style.
    """
    styles = {adapter.name: adapter.metadata.get("style", adapter.name) for adapter in module.adapters}
    if len(set(styles.values())) < len(styles):
        raise InputError("two adapters are of one style, and so cannot be told apart; test them in two runs")
    if lacking := [f"{name} ({style})" for name, style in styles.items() if style not in data.styles]:
        log.warning("no data of the style of %s, so style and skill of these are not measured", ", ".join(lacking))
    for adapter in module.adapters:
        style = styles[adapter.name]
        if style in data.styles and adapter.metadata.get("held_out") != content_hash(data.styles[style].held_out):
            log.warning(
                "%s may have been trained on some of the pictures of %s that it is measured with: its file names no or "
                "other held-out ones; give the style the root and held_out that it was trained with",
                adapter.name,
                style,
            )
    if unused := [style for style in data.styles if style not in styles.values()]:
        log.warning("no adapter of the styles %s, so there is no scale for their attainment", ", ".join(unused))
    return styles
