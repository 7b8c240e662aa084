"""Scanning and splitting a folder of captioned pictures."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import ExifTags, Image

from stylelora.data.captions import read_text
from stylelora.data.reading import SUFFIXES, open_picture
from stylelora.records import InputError, Picture

#: Report that `preprocess` writes beside the pictures, and the marker that identifies it.
CENSUS = "census.json"
WRITTEN_BY = "stylelora preprocess 1"  # stored in the census, so that a foreign file is not mistaken for one


def read_census(folder: Path) -> dict | None:
    """Read the census of a finished `preprocess` run; None if there is none."""
    try:
        census = json.loads((folder / CENSUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(census, dict) or census.get("written_by") != WRITTEN_BY:
        return None
    if "kernel" in census["settings"]:  # old name of interpolation
        census["settings"]["interpolation"] = census["settings"].pop("kernel")
    return census


def stated_licence(folder: Path) -> str:
    """Return the first line of a folder's licence file, such as LICENSE.txt; empty if there is none."""
    for file in filter(Path.is_file, sorted(folder.glob("LICEN[CS]E*"))):
        return (file.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[0].strip()
    return ""


def scan_folder(folder: Path | str) -> list[Picture]:
    """Find the captioned pictures of a folder.

    Captions come from `metadata.jsonl` (`file_name`, `text`) if present, else from a `.txt` file per picture. Files are
    read but not decoded, since decoding large sets takes minutes: see `check_decodable`.

    Args:
        folder: folder to scan.

    Returns:
        pictures sorted by file name.

    Raises:
        InputError: if the folder is missing or empty, or files are not pictures or have no caption; names all of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} does not exist")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not names:
        raise InputError(f"the data folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    captions, groups = read_captions(folder, names)
    without = [name for name in names if not captions.get(name, "").strip()]
    if without:
        raise InputError(
            f"{len(without)} of {len(names)} pictures in {folder} have no caption ({_some(without)}); add a line to "
            "metadata.jsonl or a .txt file beside each"
        )
    pictures, unreadable, sizes = [], [], {}
    for name in names:
        try:
            data = (folder / name).read_bytes()
            size = _upright_size(data)
            size = sizes.setdefault(size, size)  # share equal tuples to save memory
        except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
            unreadable.append(name)
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            group = groups.get(name, sha256)
            pictures.append(Picture(folder, name, captions[name].strip(), sha256, group, size))
    _refuse(folder, unreadable)
    return pictures


def check_decodable(folder: Path, pictures: Iterable[Picture]) -> None:
    """Check that pictures decode, since a file with a valid header may still be truncated or damaged.

    Args:
        folder: their folder, for the message.
        pictures: pictures never decoded before, that is, without cached latents.

    Raises:
        InputError: if some cannot be decoded; names all of them.
    """
    unreadable = []
    for picture in pictures:
        try:
            open_picture(picture.path)
        except InputError:
            unreadable.append(picture.name)
    _refuse(folder, unreadable)


def _refuse(folder: Path, unreadable: list[str]) -> None:
    if unreadable:
        raise InputError(
            f"{len(unreadable)} pictures in {folder} cannot be read ({_some(unreadable)}); replace or remove them"
        )


def _upright_size(data: bytes) -> tuple[int, int]:
    """Return width and height after `open_picture`, from the header alone."""
    with Image.open(io.BytesIO(data)) as image:
        # Use the base class's method: PNG's own would decode the picture to look for EXIF after the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        turned = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # for TIFF Pillow has already swapped the sides
        return (image.height, image.width) if turned else image.size


def read_captions(folder: Path, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return file name -> caption, and file name -> near-duplicate group (grouped files only)."""
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        beside = ((name, (folder / name).with_suffix(".txt")) for name in names)
        return {name: read_text(path) for name, path in beside if path.is_file()}, {}
    captions, groups = {}, {}
    for number, line in enumerate(read_text(listing).split("\n"), start=1):  # splitlines would also break at U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            captions[row["file_name"]] = row["text"] + ""  # raises TypeError unless it is a string
            if "group" in row:
                groups[row["file_name"]] = f"{int(row['group'], 16):064x}"
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f'{listing} line {number} is not {{"file_name": ..., "text": ...}}') from error
    lost = sorted(set(captions) - set(names))
    if lost:
        missing = f"{len(lost)} missing pictures ({_some(lost)})"
        raise InputError(f"{listing} names {missing}; run preprocess, or remove these lines")
    return captions, groups


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def content_hash(pictures: Sequence[Picture]) -> str:
    """Hash the picture contents, independent of order, names and captions."""
    return hashlib.sha256("\n".join(sorted(picture.sha256 for picture in pictures)).encode()).hexdigest()


def split_by_content(pictures: list[Picture], held_out: float) -> tuple[list[Picture], list[Picture]]:
    """Split pictures into training and held-out sets by content hash.

    A picture keeps its side when others are added, renamed or removed. Identical files, and near-duplicates found by
    `preprocess`, always land on the same side.

    Args:
        pictures: all pictures.
        held_out: expected share of held-out pictures, 0..1.

    Raises:
        InputError: if either side has fewer than two pictures.
    """
    below = round(held_out * 16**8)
    held = [picture for picture in pictures if int(picture.group[:8], 16) < below]
    train = [picture for picture in pictures if int(picture.group[:8], 16) >= below]
    if len(held) < 2 or len(train) < 2:
        raise InputError(
            f"{len(pictures)} pictures split into {len(train)} for training and {len(held)} held out, but each needs "
            f"at least 2; add pictures or change held_out"
        )
    return train, held
