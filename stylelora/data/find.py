"""Everything that lies below a source folder, with a verdict on each: picture, caption, or ignored and why."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylelora.data.reading import SUFFIXES, printable
from stylelora.records import InputError

CAPTION_SUFFIXES = frozenset({".txt", ".caption"})
LISTINGS = frozenset({"metadata.jsonl", "metadata.csv"})

#: What operating systems leave behind, in lower case; besides "._x", the resource fork of x.
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
#: Folders of thumbnails and resource forks, whose pictures would be duplicates.
SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir"})

_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True)
class Found:
    """One entry below a source folder.

    Attributes:
        path: below the folder that was given.
        kind: "picture" and "caption" by the name only, no byte has been read.
        reason: why it is ignored, one clause; empty for pictures and captions.
    """

    path: Path
    kind: Literal["picture", "caption", "ignored"]
    reason: str = ""


def find_files(folder: Path | str) -> list[Found]:
    """List every file below a folder, and every folder that is not looked into.

    Symlinks to files are followed, symlinks to folders are not: the walk ends whatever they point to.

    Args:
        folder: the folder; may itself be a symlink.

    Returns:
        entries by their path below the folder.

    Raises:
        InputError: if the folder is missing, unreadable or has nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the folder {printable(folder)} does not exist; give a folder of pictures")
    found: list[Found] = []
    folders = [folder]
    while folders:
        inside = folders.pop()
        try:
            with os.scandir(inside) as opened:
                entries = list(opened)
        except OSError as error:
            found.append(Found(inside, "ignored", f"folder that cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            path = inside / entry.name
            if not entry.is_dir(follow_symlinks=False):
                found.append(_verdict(path))
            elif entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                found.append(Found(path, "ignored", "hidden or system folder, not looked into"))
            else:
                folders.append(path)
                if path.suffix.lower() in SUFFIXES:
                    found.append(Found(path, "ignored", "a folder that is named like a picture; its files are listed"))
    if not found:
        raise InputError(f"the folder {printable(folder)} is empty; put pictures there or give another")
    if found[0].path == folder:
        raise InputError(f"{printable(folder)} is a {found[0].reason}; give another")
    return sorted(found, key=lambda one: one.path.relative_to(folder).as_posix())


def _verdict(path: Path) -> Found:
    """Judge what is not a folder; a symlink by what it points to."""
    name, suffix = path.name.lower(), path.suffix.lower()
    ignored = None
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        what = "symlink that leads nowhere" if path.is_symlink() else "file that cannot be looked at"
        return Found(path, "ignored", f"{what} ({error.strerror})")
    if kind == stat.S_IFDIR:
        ignored = "symlink to a folder, which is not followed"
    elif kind != stat.S_IFREG:
        ignored = f"{_SPECIAL.get(kind, 'neither file nor folder')}, not a file"
    elif name in SYSTEM_FILES or name.startswith("._"):
        ignored = "system file"
    elif name.startswith("."):
        ignored = "hidden file"
    elif any("\ud800" <= letter <= "\udfff" for letter in path.name):  # how Python keeps bytes that are no UTF-8
        ignored = "its name is not UTF-8 and could not be written down; rename it"
    elif suffix in SUFFIXES:
        return Found(path, "picture")
    elif suffix in CAPTION_SUFFIXES or name in LISTINGS:
        return Found(path, "caption")
    else:
        ignored = f"{suffix} is not read; save pictures as PNG or JPEG" if suffix else "no suffix that says what it is"
    return Found(path, "ignored", ignored)
