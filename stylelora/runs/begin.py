"""The beginning of a run: where it works, and what is there already."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from stylelora.files import remove_abandoned
from stylelora.precision import check_precision
from stylelora.records import InputError
from stylelora.runs.aside import set_aside
from stylelora.runs.folder import run_folder
from stylelora.runs.go_on import Checkpoint, go_on
from stylelora.runs.length import check_length, check_numbers, steps_over_epochs
from stylelora.runs.loggers import place_logger
from stylelora.runs.resume import ALLOW, RESUME
from stylelora.runs.settings import Changes, changes, check_adapter, settings_of_data, settings_of_run
from stylelora.runs.slurm import unfinished_state
from stylelora.runs.swapped import own_defaults


def prepare_run(config: Any, configs: Path, verb: str, words: Sequence[str]) -> None:
    """Check the numbers of a run, settle its length and the options of swapped classes, and set its folder.

    Args:
        config: parsed command line; the folder, to which all outputs go, is set in `trainer`, `checkpoint` and loggers.
        configs: the project's folder of configs.
        verb: of the command line; `validate` works in a folder inside the run's.
        words: the command line.
    """
    check_precision(config)
    check_numbers(config.trainer)
    if verb == "fit":
        steps_over_epochs(config.trainer, words)
        check_length(config.trainer)
        own_defaults(config, words)
    trainer, file = config.trainer, config.config[-1] if config.config else "unnamed"
    folder = Path(trainer.default_root_dir or run_folder(Path(str(file)), configs))
    if config.get("ckpt_path") in ("best", "last"):
        config.ckpt_path = str(folder / "checkpoints" / f"{config.ckpt_path}.ckpt")
    folder = folder / "validate" if verb == "validate" else folder
    if verb == "fit" and config.ckpt_path is None and (state := unfinished_state(folder)):
        config.ckpt_path = str(state)
    trainer.default_root_dir = str(folder)
    config.checkpoint.dirpath = str(folder / "checkpoints")
    for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
        place_logger(getattr(logger, "init_args", {}), folder, bool(config.get("ckpt_path")))  # booleans have none


def begin(
    verb: str, trainer: Any, model: Any, data: Any, config: dict, allowed: Collection[str]
) -> tuple[dict, Changes]:
    """See to what is in the folder of a run already: move it aside, or go on with it; and say where the run works.

    Args:
        verb: of the command line.
        trainer: trainer of the run.
        model: its module.
        data: its data module.
        config: settings of the run, as plain values.
        allowed: settings that may differ from the checkpoint's.

    Returns:
        record of the run for its checkpoints, and what differs from the checkpoint that it goes on from.

    Raises:
        InputError: if it cannot go on from there, or the earlier run cannot be moved.
        SystemExit: nothing is left to train, which is said.
    """
    for callback in trainer.callbacks:
        if hasattr(callback, "load_encoder"):  # a judge, which Lightning would look for after pictures are encoded
            callback.setup(trainer, model, verb)
    folder, checkpoint = Path(trainer.default_root_dir), config.get("ckpt_path")
    settings = settings_of_run(config, trainer.world_size)
    record, found = {"id": uuid.uuid4().hex, "settings": settings}, {}
    if allowed and checkpoint is None:
        raise InputError(f"{ALLOW} names settings that may differ from a checkpoint's; give {RESUME}, too")
    if checkpoint is not None and verb in ("fit", "validate"):
        saved = Checkpoint.read(Path(checkpoint))
        if verb == "validate" and saved.id is not None:
            check_adapter(changes(saved.settings | saved.found, settings | settings_of_data(model, None)))
        elif verb == "fit":
            record["id"], found = go_on(saved, trainer, model, data, settings, allowed)
    if trainer.is_global_zero:
        for place in ("*", "*/*", "*/*/*"):
            remove_abandoned(folder, place, older=0)  # no other process writes here now
        if verb != "fit" or checkpoint is None:
            names = ("model", "data", "clip_score", "ckpt_path")
            set_aside(folder, _inputs([config.get(name) for name in names]))
        for callback in trainer.callbacks:
            if hasattr(callback, "begin") and verb != "validate":  # it writes that the run is running
                callback.begin(trainer)
        print(f"{verb} on {trainer.strategy.root_device}; look into {folder}", file=sys.stderr)
    return record, found


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
