"""Captions in `metadata.jsonl` and `metadata.csv`, as Hugging Face's imagefolder has them."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stylelora.data.unicode import alike, plain
from stylelora.records import InputError
from stylelora.texts import parse_json, read_text

log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """A caption and where it stands, such as `metadata.csv line 3`."""

    text: str
    place: str


def metadata(listings: Sequence[Path]) -> dict[Path, Listed]:
    """Read listings: path of a picture, as of `alike` -> its caption.

    Rows have `file_name`, relative to the listing, and `text` or `caption`. Their `repeats` are left out.

    Raises:
        InputError: if a row lacks these fields, or fields would be lost, or two rows disagree about a picture.
    """
    captions: dict[Path, Listed] = {}
    for listing in listings:
        rows, repeats = _table(listing) if listing.suffix.lower() == ".csv" else _lines(listing), 0
        for place, fields in rows:
            try:
                several, repeats = "texts" in fields, repeats + ("repeats" in fields)
                path = listing.parent / fields["file_name"]
                texts = [fields.get(name) or "" for name in ("text", "caption")]
                found = dict.fromkeys(filter(None, (" ".join(plain(text).split()) for text in texts)))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{place} has no file_name with a text; correct it") from error
            if several:
                raise InputError(
                    f"{place} has `texts`, but preprocess needs one `text`; give it, or train on the folder without "
                    "preprocess"
                )
            if len(found) > 1:
                raise InputError(f"{place} has another `caption` than `text`; keep one")
            listed = Listed(next(iter(found), ""), place)
            first = captions.setdefault(alike(path), listed)
            if first.text != listed.text:
                raise InputError(f"{place} gives {path.name} another caption than {first.place}; keep one")
        if repeats:
            log.warning(
                "%s gives %d pictures repeats, which are left out; write them into the new one", listing, repeats
            )
    return captions


def _lines(listing: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_text(listing).split("\n"), start=1):
        if line.strip():
            place = f"{listing} line {number}"
            yield place, parse_json(line, place)


def _table(listing: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV file with their last lines; none has more fields than the header, or needed ones less."""
    reader = csv.reader(io.StringIO(read_text(listing), newline=""), strict=True)
    header: list[str] = []
    quoting = (
        'put texts with commas or quotes into double quotes, and double the quotes in them: "a ""red"", round cat"'
    )
    try:
        for row in filter(None, reader):
            place = f"{listing} line {reader.line_num}"
            if not header:
                header = [name.strip() for name in row]
                if "file_name" not in header or not {"text", "caption"} & {*header}:
                    raise InputError(f"{place} has no file_name with a text; name the columns there: file_name,text")
                if len({*header}) < len(header):
                    raise InputError(f"{place} names a column twice; give each another name")
                continue
            lost = any(field.strip() for field in row[len(header) :])
            if lost or {"file_name", "text", "caption"} & {*header[len(row) :]}:
                raise InputError(f"{place} has {len(row)} fields, but line 1 names {len(header)}; {quoting}")
            yield place, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise InputError(f"{listing} line {reader.line_num} is no CSV ({error}); {quoting}") from error
