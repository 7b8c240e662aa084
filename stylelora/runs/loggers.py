"""Loggers of whatever kind: their place, what is sent to them, and how they go on when a run is resumed."""

from __future__ import annotations

import csv
import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stylelora.records import Metric
from stylelora.runs.checkpoint import read_checkpoint


def place_logger(init_args: Any, folder: Path, resumed: bool) -> None:
    """Point a logger to the folder of a run, without Lightning's sub-folders for versions.

    Args:
        init_args: its parsed options, changed in place.
        folder: folder of the run.
        resumed: whether the run goes on with an earlier one, and so with its run at Weights & Biases.
    """
    if "save_dir" not in init_args:
        return
    init_args.save_dir = str(folder)
    if "flush_logs_every_n_steps" in init_args or "default_hp_metric" in init_args:  # CSVLogger, TensorBoardLogger
        if init_args.get("name") in ("lightning_logs", "") and not init_args.get("version"):
            init_args.name, init_args.version = "", "csv" if "flush_logs_every_n_steps" in init_args else ""
    elif "project" in init_args and "id" in init_args:  # Weights & Biases
        init_args.name = init_args.name or folder.name
        runs = sorted(folder.glob("wandb/*run-*-*"), key=lambda path: path.stat().st_mtime) if resumed else []
        if runs and init_args.id is None and init_args.get("version") is None:
            init_args.id = runs[-1].name.rpartition("-")[2]


def go_on(loggers: Sequence[Any], checkpoint: Path) -> None:
    """Let a resumed run's loggers go on after the step of its checkpoint; what came later is run, and logged, again.

    CSVLogger deletes the file of an earlier run; TensorBoard would show both.

    Args:
        loggers: loggers that have not logged yet.
        checkpoint: what the run is resumed from; other words than a file are left to Lightning.
    """
    if not checkpoint.is_file():
        return
    step = read_checkpoint(checkpoint)["global_step"]
    for logger in loggers:
        file = Path(logger.log_dir or "", "metrics.csv") if hasattr(logger, "log_dir") else Path()
        if hasattr(logger, "_flush_logs_every_n_steps") and file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                rows = [row for row in csv.DictReader(lines) if int(row["step"]) < step]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the deletion
                logger.experiment.metrics = [{key: value for key, value in row.items() if value} for row in rows]
        elif "purge_step" in getattr(logger, "_kwargs", {}) and logger._kwargs["purge_step"] is None:
            logger._kwargs["purge_step"] = step + 1  # an option of TensorBoard's SummaryWriter


def log_picture(logger: Any, name: str, picture: Image.Image, step: int) -> None:
    """Send a picture to a logger; one that takes none is left alone."""
    if hasattr(logger, "log_image"):  # Weights & Biases, and those that follow it
        logger.log_image(name, [picture], step=step)
    elif hasattr(getattr(logger, "experiment", None), "add_image"):  # TensorBoard
        import numpy as np

        logger.experiment.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


def log_outcome(logger: Any, settings: Mapping[str, Any], metrics: Sequence[Metric], step: int) -> None:
    """Send the metrics of the kept adapter, `kept/...`; TensorBoard shows them beside the settings, under HPARAMS."""
    values = {f"kept/{metric}": metric.value for metric in metrics}
    if "metrics" in inspect.signature(logger.log_hyperparams).parameters:
        logger.log_hyperparams(dict(settings), values, step=step)
    elif values:
        logger.log_metrics(values, step)
