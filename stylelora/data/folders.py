"""Where a data folder has its pictures and their captions: in itself, or in folders that kohya names `10_cat`."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stylelora.data.captions import caption_file
from stylelora.data.listings import metadata
from stylelora.data.reading import SUFFIXES
from stylelora.data.unicode import alike, plain
from stylelora.records import InputError, some
from stylelora.texts import parse_json, printable, read_text

log = logging.getLogger(__name__)

LISTING = "metadata.jsonl"
TABLE = "metadata.csv"
#: Repeats above this are rather a year, as in `2024_sketches`, and are said.
MANY = 200
MOST = 10**6
#: kohya's name for a folder of pictures: how often each is shown per epoch, and the caption of those without one.
_REPEATED = re.compile(r"0*([1-9]\d*)_(.+)", re.DOTALL)


@dataclass(frozen=True)
class Subset:
    """Pictures of one folder.

    Attributes:
        folder: their folder.
        names: file names, sorted; at least one.
        repeats: how often each picture is shown, by the folder's name.
        token: caption of pictures without one, by the folder's name; empty: each needs one.
    """

    folder: Path
    names: list[str]
    repeats: int = 1
    token: str = ""


def repeats_of(folder: str) -> int:
    """Return how often pictures of a folder are shown per epoch by its name, such as `10_cat`; else 1."""
    match = _REPEATED.fullmatch(folder)
    return int(match[1]) if match else 1


class Described(NamedTuple):
    """What is written about a picture.

    Attributes:
        texts: its captions.
        repeats: how often it is shown, besides the repeats of its folder.
        group: group of near-duplicates, 64 hexadecimal digits; None: none.
    """

    texts: tuple[str, ...]
    repeats: int = 1
    group: str | None = None


def find_subsets(root: Path) -> list[Subset]:
    """Find the pictures of a data folder: those in it or, if there are none, those in its folders `N_name`.

    Raises:
        InputError: if the folder is missing or holds no pictures, or both kinds.
    """
    if not root.is_dir():
        raise InputError(f"the data folder {root} does not exist")
    names, folders = _contents(root)
    parts = {folder: match for folder in folders if (match := _REPEATED.fullmatch(folder))}
    inside = {folder: _contents(root / folder)[0] for folder in (parts if names else folders)}
    inside = {folder: pictures for folder, pictures in inside.items() if pictures}
    parts = {folder: match for folder, match in parts.items() if folder in inside}
    if names and parts:
        raise InputError(
            f"{root} holds both pictures and folders of repeated pictures ({some(parts)}); move the pictures into such "
            "a folder, too, or the folders elsewhere"
        )
    if not names and not parts:
        others = f" but folders of them ({some(inside)}); call these N_name, N being the repeats, or run preprocess"
        raise InputError(
            f"the data folder {root} holds no pictures ({', '.join(sorted(SUFFIXES))})" + others * bool(inside)
        )
    if names:
        if match := _REPEATED.fullmatch(root.resolve().name):
            log.warning(
                "the name of %s gives no repeats; for %s repeats give --data.repeats %s, or its parent as --data.root",
                *(root, match[1], match[1]),
            )
        return [Subset(root, names)]
    if (root / LISTING).is_file():
        raise InputError(f"{root / LISTING} describes no pictures beside it; move its lines into {some(parts)}")
    if others := inside.keys() - parts:
        log.warning("folders in %s that are not called N_name are left out: %s", root, some(sorted(others)))
    if absurd := [name for name in parts if repeats_of(name) > MOST]:
        raise InputError(f"{root / absurd[0]} is named for {repeats_of(absurd[0])} repeats; give at most {MOST}")
    if many := [name for name in parts if repeats_of(name) > MANY]:
        log.warning("%s in %s: its pictures are shown %d times per epoch", many[0], root, repeats_of(many[0]))
    return [Subset(root / name, inside[name], repeats_of(name), match[2]) for name, match in parts.items()]


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's pictures, and those of its folders, each sorted."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise InputError(f"{printable(folder)} cannot be read ({error.strerror}); make it readable") from error
    pictures = [name for name, _ in found if Path(name).suffix.lower() in SUFFIXES]
    return pictures, [name for name, is_folder in found if is_folder and name not in pictures]


def read_captions(subset: Subset) -> dict[str, Described]:
    """Read what is written about the pictures of a folder, by file name: in `metadata.jsonl`, or beside each.

    Raises:
        InputError: if a file cannot be read, or a line is wrong or for no picture.
    """
    listing = subset.folder / LISTING
    if not os.path.lexists(listing):
        texts = {name: caption_file(subset.folder / name) for name in subset.names}
        return {name: Described((text.strip(),)) for name, text in texts.items() if text is not None}
    found: dict[str, Described] = {}
    names, known = {*subset.names}, {alike(name): name for name in subset.names}
    for number, line in enumerate(read_text(listing).split("\n"), start=1):  # splitlines would also break at U+2028
        if line.strip():
            name, described = _read_row(line, f"{listing} line {number}")
            name = name if name in names else known.get(alike(name), name)
            if found.setdefault(name, described) != described:
                raise InputError(f"{listing} line {number} describes {name} again; give one line several `texts`")
    if lost := sorted(found.keys() - names):
        raise InputError(
            f"{listing} names {len(lost)} missing pictures ({some(lost)}); run preprocess, or remove these lines"
        )
    _compare(subset, found)
    return found


def _compare(subset: Subset, found: dict[str, Described]) -> None:
    """Compare what `metadata.jsonl` says with other files; the text files of preprocess have the trigger besides.

    Raises:
        InputError: if one has another caption for a picture.
    """
    names = {name.lower() for name in os.listdir(subset.folder)}
    others: dict[str, tuple[str, str]] = {}
    if any(name.endswith((".txt", ".caption")) for name in names):
        texts = {name: caption_file(subset.folder / name) for name in found}
        others = {name: (" ".join(text.split()), "the text file beside it") for name, text in texts.items() if text}
    if TABLE in names:
        listed = metadata([subset.folder / TABLE])
        rows = {name: listed.get(alike(subset.folder / name)) for name in found}
        others |= {name: (row.text, row.place) for name, row in rows.items() if row and row.text}
    for name, (text, place) in others.items():
        if not any(" ".join(one.split()) in text for one in found[name].texts):
            raise InputError(f"{subset.folder / LISTING} has another caption for {name} than {place}; keep one")


def _read_row(line: str, place: str) -> tuple[str, Described]:
    try:
        row = parse_json(line, place)
        texts = tuple(plain(text).strip() for text in (row["texts"] if "texts" in row else [row["text"]]))
        group = f"{int(row['group'], 16):064x}" if "group" in row else None
        name, repeats = row["file_name"] + "", row.get("repeats", 1)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        form = '{"file_name": ..., "text": ...} or {"file_name": ..., "texts": [..., ...]}'
        raise InputError(f"{place} is not {form}; correct it") from error
    if "texts" in row and ("text" in row or not isinstance(row["texts"], list) or not all(texts) or not texts):
        raise InputError(
            f"{place} needs a list of captions as `texts`, none empty, and no `text` beside it; correct it"
        )
    if type(repeats) is not int or not 1 <= repeats <= MOST:
        raise InputError(f"{place} has repeats {json.dumps(repeats)}; give a whole number from 1 to {MOST}")
    return name, Described(texts, repeats, group)
