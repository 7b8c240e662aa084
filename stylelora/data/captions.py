"""Caption sources and caption cleaning."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stylelora.records import InputError
from stylelora.texts import parse_json, read_text

log = logging.getLogger(__name__)

#: Sources that generate captions with a network.
MACHINES = ("blip", "retrieval")
#: All caption sources. The first two are written by people.
SOURCES = ("sidecar", "metadata", "filename", "template", *MACHINES)
_NUMBERING = re.compile(
    r"^(img|dsc[nf]?|pict?|image|photo|scan|screenshot|untitled|frame|file|copy|final|v)?\d*$", re.I
)


@dataclass(frozen=True)
class Caption:
    """Description of a picture's content.

    Attributes:
        text: caption without trigger word.
        source: its origin, one of SOURCES.
    """

    text: str
    source: str


def beside(path: Path) -> list[Path]:
    """List the caption files `a.png` may have: `a.txt`, `a.caption`, `a.png.txt`, `a.png.caption`, or upper case."""
    endings = [case(ending) for ending in (".txt", ".caption") for case in (str.lower, str.upper)]
    return [path.with_name(stem + ending) for stem in (path.stem, path.name) for ending in endings]


def caption_file(path: Path) -> str | None:
    """Return what stands in a picture's caption file in the same folder; None if there is none.

    Raises:
        InputError: if it is not UTF-8 text, or several caption files disagree.
    """
    there = [one for one in beside(path) if os.path.isfile(one)]  # unlike Path.is_file, never raises for long names
    texts = {one.name: read_text(one) for one in there}
    if len({" ".join(text.split()) for text in texts.values()}) > 1:
        raise InputError(f"{' and '.join(texts)} differ; keep one of them")
    return next(iter(texts.values()), None)


def sidecar(path: Path) -> str | None:
    """Return the text of a picture's caption file on one line; raises like `caption_file`."""
    text = caption_file(path)
    return None if text is None else " ".join(text.split())


def metadata(listings: Sequence[Path]) -> dict[Path, str]:
    """Read files such as `metadata.jsonl` and `metadata.csv`: path of a picture -> its caption.

    Rows have `file_name`, relative to the metadata file, and `text` or `caption`. Their `repeats` are left out.

    Raises:
        InputError: if a row lacks these fields, or two rows disagree about a picture.
    """
    captions: dict[Path, str] = {}
    for listing in listings:
        text, table = read_text(listing), listing.suffix.lower() == ".csv"
        rows = csv.DictReader(io.StringIO(text, newline="")) if table else text.split("\n")
        repeats = 0
        for number, row in enumerate(rows, start=1 + table):
            if isinstance(row, str) and not row.strip():
                continue
            try:
                fields = row if table else parse_json(row, f"{listing} line {number}")
                several, repeats = "texts" in fields, repeats + ("repeats" in fields)
                path = Path(os.path.normpath(listing.parent / fields["file_name"]))
                words = " ".join((fields.get("text") or fields.get("caption") or "").split())
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{listing} line {number} has no file_name with a text; correct it") from error
            if several:
                raise InputError(
                    f"{listing} line {number} has `texts`, but preprocess needs one `text`; give it, or train on the "
                    "folder without preprocess"
                )
            if captions.setdefault(path, words) != words:
                raise InputError(f"{listing} line {number} gives {path.name} another caption than before; keep one")
        if repeats:
            log.warning(
                "%s gives %d pictures repeats, which are left out; write them into the new one", listing, repeats
            )
    return captions


def words_of(name: str) -> str:
    """Turn a file stem into words, `polar_bear-02` -> `polar bear`; empty if it is only a number or the like."""
    words = re.split(r"[\s_\-.+,()\[\]]+", name)
    return " ".join(word for word in words if word and not _NUMBERING.fullmatch(word))


def whole_word(phrase: str) -> re.Pattern[str]:
    """Return what finds a phrase in a caption, in any case, but not as a part of words."""
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)


def clean(text: str, remove: Sequence[str] = (), trigger: str = "") -> str:
    """Clean a caption: strip line breaks, control characters, the trigger and unwanted phrases.

    Args:
        text: original caption.
        remove: phrases such as `a watercolor painting of`; if style words appear together with the trigger, they
            absorb part of the style.
        trigger: the style's trigger word, prepended again in training.
    """
    text = "".join(char if char.isprintable() else " " for char in text)
    for phrase in (*remove, trigger):
        if phrase:
            text = whole_word(phrase).sub(" ", text)
    text = re.sub(r"\s+", " ", re.sub(r"(\s*,)+", ",", text))
    return text.strip(" ,;")


def check_template(template: str, fields: Sequence[str] = ("trigger", "text")) -> None:
    """Check that a template uses only the allowed fields, as they are: no attributes, indexes or formats of them.

    Raises:
        InputError: if it uses others; the message lists the allowed ones.
    """
    error: ValueError | None = None
    try:
        found = [field for _, *field in string.Formatter().parse(template) if field[0] is not None]
        plain = all(name in fields and not form and not conversion for name, form, conversion in found)
    except ValueError as damaged:  # such as a brace that is not closed
        plain, error = False, damaged
    if not plain:
        allowed = " and ".join(f"{{{field}}}" for field in fields)
        raise InputError(f"template {template!r} may only hold {allowed}, and {{{{ and }}}} for braces") from error


def collapse_repeats(text: str) -> str:
    """Collapse repeated phrases of up to four words: `a bald bald bald man` -> `a bald man`."""
    words = text.split()
    for length in (4, 3, 2, 1):
        i = 0
        while i + 2 * length <= len(words):
            if words[i : i + length] == words[i + length : i + 2 * length]:
                del words[i + length : i + 2 * length]
            else:
                i += 1
    return " ".join(words)
