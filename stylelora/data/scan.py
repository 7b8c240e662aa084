"""A folder of pictures and captions on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stylelora.data.images import open_picture
from stylelora.records import InputError, Picture

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def scan_folder(folder: Path | str) -> list[Picture]:
    """Read the captioned pictures of a folder.

    Captions come from `metadata.jsonl` (`file_name`, `text`) if there is one, else from a `.txt` beside each picture.

    Args:
        folder: the folder.

    Returns:
        pictures by file name.

    Raises:
        InputError: if the folder is missing or empty, or a picture is unreadable or has no caption. All such pictures
            are named at once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} does not exist")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"the data folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    captions = read_captions(folder, paths)
    without = [path.name for path in paths if not captions.get(path.name, "").strip()]
    if without:
        raise InputError(
            f"{len(without)} of {len(paths)} pictures in {folder} have no caption ({_some(without)}); add a line to "
            "metadata.jsonl or a .txt file beside each"
        )
    sizes, unreadable = {}, []
    for path in paths:
        try:
            sizes[path] = open_picture(path).size
        except InputError:
            unreadable.append(path.name)
    if unreadable:
        raise InputError(
            f"{len(unreadable)} pictures in {folder} cannot be read ({_some(unreadable)}); replace or remove them"
        )
    return [
        Picture(path, captions[path.name].strip(), hashlib.sha256(path.read_bytes()).hexdigest(), sizes[path])
        for path in paths
    ]


def read_captions(folder: Path, paths: list[Path]) -> dict[str, str]:
    """Return file name -> caption."""
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        return {path.name: _read(path.with_suffix(".txt")) for path in paths if path.with_suffix(".txt").is_file()}
    captions = {}
    for number, line in enumerate(_read(listing).splitlines(), start=1):
        try:
            row = json.loads(line)
            captions[row["file_name"]] = row["text"] + ""  # a TypeError unless it is a text
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f'{listing} line {number} is not {{"file_name": ..., "text": ...}}') from error
    lost = sorted(set(captions) - {path.name for path in paths})
    if lost:
        raise InputError(f"{listing} names {len(lost)} pictures that are not there ({_some(lost)})")
    return captions


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def split_by_content(pictures: list[Picture], held_out: float) -> tuple[list[Picture], list[Picture]]:
    """Divide pictures into training and held-out ones by the hash of their content.

    A picture stays on its side whatever is added, renamed or removed, and equal files are always on one side.

    Args:
        pictures: all of them.
        held_out: expected share of held-out pictures, 0..1.

    Raises:
        InputError: if either side has fewer than two pictures.
    """
    below = round(held_out * 16**8)
    held = [picture for picture in pictures if int(picture.sha256[:8], 16) < below]
    train = [picture for picture in pictures if int(picture.sha256[:8], 16) >= below]
    if len(held) < 2 or len(train) < 2:
        raise InputError(
            f"{len(pictures)} pictures split into {len(train)} for training and {len(held)} held out, at least 2 each "
            "are needed; add pictures or change held_out"
        )
    return train, held
