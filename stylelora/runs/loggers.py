"""Loggers of whatever kind: their place, what is sent to them, and how they go on when a run is resumed."""

from __future__ import annotations

import csv
import inspect
import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stylelora.records import Metric


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


def lengths(loggers: Sequence[Any], folder: Path) -> dict[str, int]:
    """Return how long the logs in a run's folder are: rows of a CSVLogger's file, bytes of TensorBoard's.

    Args:
        loggers: of the run; others than these two are left to their services.
        folder: folder of the run.
    """
    rows = {file: _count(file) for file in _csv_files(loggers).values()}
    events = {file: file.stat().st_size for file in _event_files(loggers)}
    return {os.path.relpath(file, folder): length for file, length in (rows | events).items()}


def go_on(loggers: Sequence[Any], folder: Path, logs: Mapping[str, int]) -> None:
    """Bring a resumed run's logs back to where its checkpoint was saved; what came later is run, and logged, again.

    Args:
        loggers: loggers that have not logged yet.
        folder: folder of the run.
        logs: their `lengths` when the checkpoint was saved.
    """
    for file in _event_files(loggers):
        length = logs.get(os.path.relpath(file, folder), 0)
        if not length:
            file.unlink()  # begun later
        elif length < file.stat().st_size:
            os.truncate(file, length)
    for index, file in _csv_files(loggers).items():
        kept = file.with_suffix(".csv.kept")  # still there if the run is killed while CSVLogger deletes the file
        if not file.is_file() and not kept.is_file():
            continue
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                rows = list(itertools.islice(csv.reader(lines), logs.get(os.path.relpath(file, folder), 0) + 1))
            with kept.open("w", newline="", encoding="utf-8") as lines:
                csv.writer(lines).writerows(rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deletion
            writer = loggers[index].experiment
        kept.replace(file)
        with file.open(newline="", encoding="utf-8") as lines:
            writer.metrics_keys = next(csv.reader(lines), [])


def _csv_files(loggers: Sequence[Any]) -> dict[int, Path]:
    """Return the file of each CSVLogger, by its place among the loggers."""
    found = [(i, one) for i, one in enumerate(loggers) if hasattr(one, "_flush_logs_every_n_steps")]
    return {index: Path(logger.log_dir, "metrics.csv") for index, logger in found}


def _event_files(loggers: Sequence[Any]) -> list[Path]:
    """Return the files of TensorBoard; a resumed run adds one."""
    folders = [Path(logger.log_dir) for logger in loggers if hasattr(logger, "_default_hp_metric")]
    return [file for folder in folders for file in folder.glob("events.out.tfevents.*")]


def _count(file: Path) -> int:
    """Return the number of rows of a CSV file."""
    if not file.is_file():
        return 0
    with file.open(newline="", encoding="utf-8") as lines:
        return max(0, sum(1 for _ in csv.reader(lines)) - 1)


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
