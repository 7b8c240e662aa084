"""The trainings below a folder of runs, their LoRAs, and what of them may be handed out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from stylelora.runs.lock import LOCK, is_taken
from stylelora.texts import is_text

#: Folders inside a run's, which hold no run; there may be thousands of pictures.
INSIDE = {"samples", "pictures", "checkpoints", "csv", "wandb", "validate"}
DROPPED = "desk"  # folder below that of the runs, for files that were dropped on the page
STARTED = "clip_score.jsonl"  # every training begins with it, and nothing else writes it


def trainings(runs: Path) -> list[str]:
    """Return the trainings below a folder, as paths from there; the one that wrote last comes first.

    Runs of `test` and `predict`, which have no epochs, are left out. A training is there from its first step on. Links
    to other folders are not followed.

    Args:
        runs: folder of runs; need not be there.
    """
    found = []
    for folder, folders, files in os.walk(runs):
        folders[:] = [name for name in folders if name not in INSIDE and not name.startswith(".")]
        if STARTED in files and is_text(folder):
            found.append((_written(Path(folder)), os.path.relpath(folder, runs)))
    return [name for _, name in sorted(found, key=lambda one: (-one[0], one[1]))]


def _written(folder: Path) -> float:
    """Return when a training last wrote, in seconds since 1970; 0: it has gone."""
    times = [0.0]
    for name in (STARTED, "result.json", "samples", "checkpoints"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def run_of(runs: Path, name: str) -> Path:
    """Return the folder of a training by its name.

    Raises:
        InputError: if it is none below `runs`; names come from a browser, so they may be anything.
    """
    folder = runs / name
    if "\0" in name or not inside(runs, folder):
        raise InputError(f"there is no training {name!r} below {runs}; choose one from the list")
    if not (folder / STARTED).is_file():
        raise InputError(f"the run {name} has been moved, renamed or deleted; choose another one")
    return folder


def inside(runs: Path, path: Path) -> bool:
    """Return whether a path, after all its links, is below the folder of runs, or is that folder."""
    try:
        return path.resolve().is_relative_to(runs.resolve())
    except (OSError, RuntimeError):  # a link that leads back to itself
        return False


def is_training(folder: Path) -> bool:
    """Return whether a training is going on in a folder."""
    try:
        return (folder / LOCK).exists() and is_taken(folder)
    except OSError:  # somebody else's, whose lock nobody may open
        return False


def loras_of(runs: Path) -> dict[str, Path]:
    """Return the LoRAs that trainings have kept, and those that were dropped on the page.

    Args:
        runs: folder of runs.

    Returns:
        name -> file; the name is the file's, or its run's place below `runs` if another LoRA is called so, too.
    """
    files = [file for name in sorted(trainings(runs)) if (file := adapter_file(runs / name)).is_file()]
    files += sorted((runs / DROPPED).glob("*.safetensors"))
    counts = Counter(file.stem for file in files)
    return {file.stem if counts[file.stem] == 1 else _place(runs, file): file for file in files}


def _place(runs: Path, file: Path) -> str:
    kept = file == adapter_file(file.parent)
    return str((file.parent if kept else file.with_suffix("")).relative_to(runs))
