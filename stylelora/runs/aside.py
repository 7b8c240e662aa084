"""An earlier run in a folder is kept: moved out of the way, or copied before it is gone on with."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from stylelora.files import new_folder
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file, free_name
from stylelora.runs.lock import LOCK, OWNER, check_free

#: What runs write. In a folder that may hold other things only these are moved; what tells of a run comes last.
MADE = (
    "checkpoints", "samples", "pictures", "validate", "validate.[0-9]*", "test", "test.[0-9]*", "csv", "wandb",
    "hparams.yaml", "*tfevents*", "clip_score.jsonl", "pictures.jsonl", "values.jsonl", "losses.jsonl",
    "metrics.csv", "grid.png", "grid-*.png", "evaluation.html", "{name}.md", "{name}.preview.png",
    "{name}*.safetensors", "result.json", "config.yaml",
)  # fmt: skip
EARLIER = "earlier"  # sub-folder for earlier runs where there can be none beside the folder


def is_used(folder: Path) -> bool:
    """Return whether a folder holds a run."""
    tells = (folder / "result.json", folder / "config.yaml", adapter_file(folder))
    return any(path.exists() for path in tells) or any((folder / "checkpoints").glob("*.ckpt"))


def set_aside(folder: Path, inputs: Iterable[Path] = ()) -> None:
    """Move an earlier run out of a folder, to `<folder>.1`, `.2`, ..., with a message; nothing is deleted.

    The folder itself stays, since it may be a mount point, a link, or where a shell is. There, and in a person's home,
    only what runs write is moved, to `earlier.1` inside, since it may hold other things.

    Args:
        folder: folder of the run that begins, which owns it.
        inputs: files and folders that this run reads.

    Raises:
        InputError: if one of them would be moved, a run is going on inside, or something cannot be moved.
    """
    if not is_used(folder):
        return
    check_free(folder)
    real = folder.resolve()
    entries = list(_made(real) if _is_shared(real) else _all(real))
    for one in inputs:
        if lost := [entry for entry in entries if entry in (one.resolve(), *one.resolve().parents)]:
            raise InputError(
                f"{folder} holds an earlier run, which would be moved aside, but this run reads {lost[0]}; name "
                "another folder with --trainer.default_root_dir"
            )
    places = [free_name(real / EARLIER)] if _is_shared(real) else [free_name(real), free_name(real / EARLIER)]
    for place in places:
        try:
            _move(entries, place)
        except OSError as error:
            if place is places[-1] or error.errno not in (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS):
                raise InputError(
                    f"{folder} holds an earlier run, which cannot be moved to {place}: {error.strerror}; name another "
                    "folder with --trainer.default_root_dir"
                ) from error
        else:
            beside = folder.parent / place.name if place.parent == real.parent and not folder.is_symlink() else place
            print(f"{folder} held an earlier run, which is now in {beside}", file=sys.stderr)
            return


def keep_copy(folder: Path) -> None:
    """Copy a finished run to `<folder>.1`, `.2`, ..., before it is gone on with, with a message.

    Raises:
        InputError: if it cannot be copied.
    """
    real = folder.resolve()
    place = free_name(real / EARLIER) if _is_shared(real) else free_name(real)
    try:
        with new_folder(place) as partial:
            for entry in _made(real) if _is_shared(real) else _all(real):
                (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, partial / entry.name)
    except shutil.Error as error:  # of a tree: each file with its reason
        raise InputError(f"{folder} is finished, but cannot be copied to {place}: {error.args[0][0][2]}") from error
    print(f"{folder} is finished; as it is now it stays in {place}", file=sys.stderr)


def _is_shared(real: Path) -> bool:
    """Return whether a folder is one that has a place of its own, or holds more than a run."""
    homes = (Path.cwd(), Path.home())
    return os.path.ismount(real) or any(real in (one.resolve(), *one.resolve().parents) for one in homes)


def _all(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, except locks and earlier runs; what tells of a run comes last."""
    kept = {LOCK, OWNER, "lost+found"}
    entries = [one for one in folder.iterdir() if one.name not in kept and not one.name.startswith(f"{EARLIER}.")]
    yield from sorted(entries, key=lambda one: (one.name in MADE[-2:], one.name))


def _made(folder: Path) -> Iterator[Path]:
    """Yield what runs have written."""
    name = glob.escape(folder.name)
    found = (one for pattern in MADE for one in sorted(folder.glob(pattern.format(name=name))))
    yield from dict.fromkeys(found)


def _move(entries: list[Path], place: Path) -> None:
    """Move files and folders, all or none, and never copy them."""
    moved: list[Path] = []
    place.mkdir()
    try:
        for entry in entries:
            entry.rename(place / entry.name)
            moved.append(entry)
    except OSError:
        for entry in reversed(moved):
            (place / entry.name).rename(entry)
        place.rmdir()
        raise
