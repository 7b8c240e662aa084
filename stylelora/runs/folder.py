"""Run folders: names of a run's place and of its adapter."""

from __future__ import annotations

from pathlib import Path


def run_folder(config: Path, configs: Path) -> Path:
    """Return runs/<path of a run's config file below `configs`>, or runs/<its name> if it lies elsewhere."""
    name = config.resolve().with_suffix("")
    return Path("runs", name.relative_to(configs) if name.is_relative_to(configs) else name.name)


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
