"""Run folders: where a run writes, and how an earlier run in the same place is kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylelora.precision import check_precision
from stylelora.runs.length import steps_over_epochs
from stylelora.runs.loggers import place_logger
from stylelora.runs.swapped import own_defaults


def run_folder(config: Path, configs: Path) -> Path:
    """Return runs/<path of a run's config file below `configs`>, or runs/<its name> if it lies elsewhere."""
    name = config.resolve().with_suffix("")
    return Path("runs", name.relative_to(configs) if name.is_relative_to(configs) else name.name)


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
        own_defaults(config, words)
    trainer, file = config.trainer, config.config[-1] if config.config else "unnamed"
    folder = Path(trainer.default_root_dir or run_folder(Path(str(file)), configs))
    folder = folder / "validate" if verb == "validate" else folder
    trainer.default_root_dir = str(folder)
    config.checkpoint.dirpath = config.last_checkpoint.dirpath = str(folder / "checkpoints")
    for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
        place_logger(getattr(logger, "init_args", {}), folder, bool(config.get("ckpt_path")))  # booleans have none


def adapter_file(folder: Path, which: str = "") -> Path:
    """Return where a run's adapter is: a file named like its folder, so that it keeps its name where it is copied.

    Args:
        folder: folder of the run.
        which: what follows the name, such as "-last".
    """
    return folder / f"{folder.resolve().name}{which}.safetensors"


def free_name(folder: Path) -> Path:
    """Return the first unused name among `<folder>.1`, `<folder>.2`, ..."""
    number = 1
    while folder.with_name(f"{folder.name}.{number}").exists():
        number += 1
    return folder.with_name(f"{folder.name}.{number}")


def set_aside(folder: Path) -> None:
    """Move an earlier run's folder to `<folder>.1`, `.2`, ..., with a message; nothing is deleted."""
    if not any(path.exists() for path in (folder / "result.json", folder / "config.yaml", adapter_file(folder))):
        return
    aside = free_name(folder)
    folder.rename(aside)
    print(f"{folder} held an earlier run, which is now in {aside}", file=sys.stderr)
