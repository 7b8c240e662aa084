"""The beginning of a run: where it works, and what is there already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stylelora.precision import check_precision
from stylelora.runs.aside import set_aside
from stylelora.runs.folder import run_folder
from stylelora.runs.length import check_length, steps_over_epochs
from stylelora.runs.loggers import go_on, place_logger
from stylelora.runs.slurm import unfinished_state
from stylelora.runs.swapped import own_defaults


def prepare_run(config: Any, configs: Path, verb: str, words: Sequence[str]) -> None:
    """Check the precision of a run, settle its length and the options of swapped classes, and set its folder.

    Args:
        config: parsed command line; the folder, to which all outputs go, is set in `trainer`, `checkpoint` and loggers.
        configs: the project's folder of configs.
        verb: of the command line; `validate` works in a folder inside the run's.
        words: the command line.
    """
    check_precision(config)
    if verb == "fit":
        steps_over_epochs(config.trainer, words)
        check_length(config.trainer)
        own_defaults(config, words)
    trainer, file = config.trainer, config.config[-1] if config.config else "unnamed"
    folder = Path(trainer.default_root_dir or run_folder(Path(str(file)), configs))
    folder = folder / "validate" if verb == "validate" else folder
    if verb == "fit" and config.ckpt_path is None and (state := unfinished_state(folder)):
        config.ckpt_path = str(state)
    trainer.default_root_dir = str(folder)
    config.checkpoint.dirpath = config.last_checkpoint.dirpath = str(folder / "checkpoints")
    for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
        place_logger(getattr(logger, "init_args", {}), folder, bool(config.get("ckpt_path")))  # booleans have none


def begin(verb: str, trainer: Any, model: Any, config: dict) -> None:
    """Make room for a run in its folder, or let it go on with what is there, and say where it works.

    Args:
        verb: of the command line.
        trainer: trainer of the run.
        model: its module.
        config: settings of the run, as plain values.
    """
    for callback in trainer.callbacks:
        if hasattr(callback, "load_encoder"):  # a judge, which Lightning would look for after pictures are encoded
            callback.setup(trainer, model, verb)
    if not trainer.is_global_zero:
        return
    folder, checkpoint = Path(trainer.default_root_dir), config.get("ckpt_path")
    if verb == "fit" and checkpoint is not None:
        go_on(trainer.loggers, Path(checkpoint))
    else:
        set_aside(folder, _inputs([config.get("model"), config.get("data"), config.get("clip_score"), checkpoint]))
    for callback in trainer.callbacks:
        if hasattr(callback, "begin") and verb != "validate":  # it writes that the run is running
            callback.begin(trainer)
    print(f"{verb} on {trainer.strategy.root_device}; look into {folder}", file=sys.stderr)


def _inputs(value: Any, name: str = "") -> Iterator[Path]:
    """Yield each file and folder that settings name, except the cache, which is written, too."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _inputs(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _inputs(one, name)
    elif isinstance(value, str) and name != "cache" and os.path.exists(value):
        yield Path(value)
