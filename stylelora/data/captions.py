"""Caption sources and caption cleaning."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from stylelora.data.unicode import plain, spellings
from stylelora.records import InputError
from stylelora.texts import read_text

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
    """List the caption files `a.png` may have: `a.txt`, `a.caption`, `a.png.txt`, `a.png.caption`, or upper case.

    Names are spelled as the picture's, in NFC and in NFD.
    """
    endings = [case(ending) for ending in (".txt", ".caption") for case in (str.lower, str.upper)]
    stems = [spelled for stem in (path.stem, path.name) for spelled in spellings(stem)]
    return [path.with_name(stem + ending) for stem in stems for ending in endings]


def caption_file(path: Path) -> str | None:
    """Return what stands in a picture's caption file in the same folder; None if there is none.

    Raises:
        InputError: if it is not UTF-8 text, or several caption files disagree.
    """
    there = [one for one in beside(path) if os.path.isfile(one)]  # unlike Path.is_file, never raises for long names
    texts = {one.name: plain(read_text(one)) for one in there}
    if len({" ".join(text.split()) for text in texts.values()}) > 1:
        raise InputError(f"{' and '.join(texts)} differ; keep one of them")
    return next(iter(texts.values()), None)


def sidecar(path: Path) -> str | None:
    """Return the text of a picture's caption file on one line; raises like `caption_file`."""
    text = caption_file(path)
    return None if text is None else " ".join(text.split())


def words_of(name: str) -> str:
    """Turn a file stem into words, `polar_bear-02` -> `polar bear`; empty if it is only a number or the like."""
    words = re.split(r"[\s_\-.+,()\[\]]+", name)
    return " ".join(word for word in words if word and not _NUMBERING.fullmatch(word))


def whole_word(phrase: str) -> re.Pattern[str]:
    """Return what finds a phrase in a caption, in any case, but not as a part of words."""
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)


def clean(text: str, remove: Sequence[str] = (), trigger: str = "") -> str:
    """Clean a caption: strip line breaks, control characters, what cannot be seen, the trigger and unwanted phrases.

    Args:
        text: original caption.
        remove: phrases such as `a watercolor painting of`; if style words appear together with the trigger, they
            absorb part of the style.
        trigger: the style's trigger word, prepended again in training.
    """
    text = "".join(char if char.isprintable() or category(char) == "Cf" else " " for char in plain(text))
    for phrase in (*remove, trigger):
        if phrase:
            text = whole_word(plain(phrase)).sub(" ", text)
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
