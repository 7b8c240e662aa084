"""Run folders: names of a run's place and of its adapter."""

from __future__ import annotations

from pathlib import Path


def run_folder(config: Path, configs: Path) -> Path:
    """Return runs/<path of a run's config file below `configs`, or below runs/>, or runs/<its name> elsewhere."""
    name = config.resolve().with_suffix("")
    home = next((home for home in (configs, Path("runs").resolve()) if name.is_relative_to(home)), name.parent)
    return Path("runs", name.relative_to(home))


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
