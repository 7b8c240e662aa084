"""Run folders: where a run writes, and how an earlier run in the same place is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def run_folder(config: Path, configs: Path) -> Path:
    """Return runs/<path of a run's config file below `configs`>, or runs/<its name> if it lies elsewhere."""
    name = config.resolve().with_suffix("")
    return Path("runs", name.relative_to(configs) if name.is_relative_to(configs) else name.name)


def place_run(config: Any, configs: Path, inside: str = "") -> None:
    """Point all outputs of a run to its folder: the given one, or the default for its config file.

    Args:
        config: parsed command line; the folder is set in `trainer`, `checkpoint` and loggers.
        configs: the project's folder of configs.
        inside: sub-folder of the run folder, "" for the folder itself.
    """
    trainer, file = config.trainer, config.config[-1] if config.config else "unnamed"
    folder = Path(trainer.default_root_dir or run_folder(Path(str(file)), configs), inside)
    trainer.default_root_dir, config.checkpoint.dirpath = str(folder), str(folder / "checkpoints")
    for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
        if "save_dir" in getattr(logger, "init_args", {}):  # booleans have none
            logger.init_args.save_dir = str(folder)


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
