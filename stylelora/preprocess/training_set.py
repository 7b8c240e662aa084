"""Atomic writing of the training set folder: pictures, captions, report."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from stylelora.console.stopping import STOPPING
from stylelora.data.scan import CENSUS, read_census
from stylelora.files import write
from stylelora.preprocess.census import Entry, as_json, page
from stylelora.preprocess.normalise import file_sha256
from stylelora.records import InputError
from stylelora.runs.folder import free_name
from stylelora.texts import printable


def partial_of(target: Path) -> Path:
    """Return the temporary folder a training set is built in; an interrupted run's files there are reused."""
    return target.with_name(f".{target.name}.partial")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a folder and hold a lock on it.

    Raises:
        InputError: if another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"another run is writing {folder}; wait for it or choose another output") from error
    else:
        try:
            yield
        except OSError:
            print(f"what was done so far is in {folder}; the same command goes on from there")
            raise
    finally:
        os.close(handle)


def write_training_set(entries: Sequence[Entry], settings: dict, folder: Path) -> None:
    """Write captions and report next to the pictures, and remove everything else from the folder.

    `metadata.jsonl` holds the content in `text`, for our DataModules and Hugging Face's imagefolder; the `.txt` files
    hold the full training caption with trigger, as kohya's trainer expects.
    """
    lines, texts = [], {"census.html": page(entries, settings, folder)}
    for entry in entries:
        if not entry.used:
            continue
        row = entry.row
        fields = {"file_name": row.file_name, "text": entry.caption.text, "source": printable(row.source)}
        fields |= {"source_width": row.source_size[0], "source_height": row.source_size[1]}
        fields |= {"source_sha256": row.source_sha256} | ({"group": entry.group} if entry.group else {})
        fields |= {"repeats": entry.repeats} if entry.repeats > 1 else {}
        lines.append(json.dumps(fields, ensure_ascii=False))
        texts[Path(row.file_name).with_suffix(".txt").name] = entry.trained + "\n"
    texts["metadata.jsonl"] = "\n".join(lines) + "\n"
    for name, text in texts.items():
        write(folder / name, text)
    written = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())}
    written |= {entry.row.file_name: entry.row.sha256 for entry in entries if entry.used}
    census = as_json(entries, settings) | {"written": written}
    for path in folder.iterdir():
        if path.name not in written:
            path.unlink()
    write(folder / CENSUS, json.dumps(census, indent=1) + "\n")  # ASCII: names may not be valid Unicode


def put_in_place(folder: Path, target: Path) -> None:
    """Replace an earlier training set with a new one; if interrupted, both stay complete.

    Manual changes are never deleted: if there are any, the old folder is renamed, with a message.
    """
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    with STOPPING.finishing():
        if target.exists():
            if is_untouched(target):
                target.rename(old)
            else:
                aside = free_name(target)
                target.rename(aside)
                print(f"{target} was changed by hand since it was written, so it was kept as {aside}")
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def is_untouched(folder: Path) -> bool:
    """Return whether a training set is unchanged since it was written."""
    written = (read_census(folder) or {}).get("written", {})
    there = {path.name: path for path in folder.iterdir()}
    return set(there) == {*written, CENSUS} and all(file_sha256(there[name]) == sha for name, sha in written.items())


def check_target(root: Path, target: Path) -> None:
    """Check that the output folder does not overlap the source or contain other files.

    Raises:
        InputError: if it does; the message says what to do.
    """
    here = root.resolve()
    if here == target or here in target.parents or target in here.parents:
        raise InputError(f"{target} is inside {root} or contains it; write the training set elsewhere")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give output a folder")
    if target.is_dir() and any(target.iterdir()) and read_census(target) is None:
        raise InputError(f"{target} holds files that preprocess did not write; choose another output")
