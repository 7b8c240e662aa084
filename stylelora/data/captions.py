"""Where captions come from, and how one becomes what an adapter is trained with."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stylelora.data.reading import printable
from stylelora.records import InputError

#: Sources whose captions a network makes.
MACHINES = ("blip", "retrieval")
#: Where captions can be looked for. The first two are somebody's own words.
SOURCES = ("sidecar", "metadata", "filename", "template", *MACHINES)
#: Orders that a caption of tags is shown in; each is a text embedding on disk.
TAG_ORDERS = 8
_NUMBERING = re.compile(
    r"^(img|dsc[nf]?|pict?|image|photo|scan|screenshot|untitled|frame|file|copy|final|v)?\d*$", re.I
)


@dataclass(frozen=True)
class Caption:
    """What a picture shows, in words.

    Attributes:
        text: the words, without trigger.
        source: which of SOURCES they are from.
    """

    text: str
    source: str


def beside(path: Path) -> list[Path]:
    """Return where a picture's caption may stand: `a.txt`, `a.caption`, `a.png.txt`, `a.png.caption`, or upper case."""
    endings = [case(ending) for ending in (".txt", ".caption") for case in (str.lower, str.upper)]
    return [path.with_name(stem + ending) for stem in (path.stem, path.name) for ending in endings]


def sidecar(path: Path) -> str | None:
    """Read the caption file beside a picture.

    Raises:
        InputError: if it is not UTF-8 text, or if there are several that differ.
    """
    there = [one for one in beside(path) if os.path.isfile(one)]  # unlike Path.is_file no error if a name is too long
    texts = {one.name: " ".join(read_text(one).split()) for one in there}
    if len(set(texts.values())) > 1:
        raise InputError(f"{' and '.join(texts)} differ; keep one of them")
    return next(iter(texts.values()), None)


def metadata(listings: Sequence[Path]) -> dict[Path, str]:
    """Read files such as `metadata.jsonl` and `metadata.csv`: path of a picture -> its caption.

    Rows have `file_name`, relative to the file they stand in, and `text` or `caption`.

    Raises:
        InputError: for a row without these, or two rows that differ about a picture.
    """
    captions: dict[Path, str] = {}
    for listing in listings:
        text, table = read_text(listing), listing.suffix.lower() == ".csv"
        rows = csv.DictReader(io.StringIO(text, newline="")) if table else text.split("\n")
        for number, row in enumerate(rows, start=1 + table):
            if isinstance(row, str) and not row.strip():
                continue
            try:
                fields = row if table else json.loads(row)
                path = Path(os.path.normpath(listing.parent / fields["file_name"]))
                words = " ".join((fields.get("text") or fields.get("caption") or "").split())
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{listing} line {number} has no file_name with a text; correct it") from error
            if captions.setdefault(path, words) != words:
                raise InputError(f"{listing} line {number} gives {path.name} another caption than before; keep one")
    return captions


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        InputError: if it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror}); make it readable") from error


def read_prompts(path: Path) -> list[str]:
    """Return the lines of a text file that hold anything; raises as `read_text`."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def words_of(name: str) -> str:
    """Return the words of a name without suffix, `polar_bear-02` -> `polar bear`; none if it is only a number or so."""
    words = re.split(r"[\s_\-.+,()\[\]]+", name)
    return " ".join(word for word in words if word and not _NUMBERING.fullmatch(word))


def clean(text: str, remove: Sequence[str] = (), trigger: str = "") -> str:
    """Return a caption's content: no line breaks, no control characters, no trigger, none of the phrases to remove.

    Args:
        text: as it was found.
        remove: phrases such as `a watercolor painting of`; what names the style must not stand beside the trigger,
            or part of the style is learned by these words instead.
        trigger: the style's trigger word, which is put in front again when training.
    """
    text = "".join(char if char.isprintable() else " " for char in text)
    for phrase in (*remove, trigger):
        if phrase:
            text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\s+", " ", re.sub(r"(\s*,)+", ",", text))
    return text.strip(" ,;")


def check_template(template: str, fields: Sequence[str] = ("trigger", "text")) -> None:
    """Refuse a template that holds other fields.

    Raises:
        InputError: with those that it may hold.
    """
    try:
        template.format(**dict.fromkeys(fields, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        allowed = " and ".join(f"{{{field}}}" for field in fields)
        raise InputError(f"template {template!r} may only hold {allowed}") from error


def collapse_repeats(text: str) -> str:
    """Shorten what a captioner has stuttered: `a bald bald bald man` -> `a bald man`, phrases up to four words."""
    words = text.split()
    for length in (4, 3, 2, 1):
        i = 0
        while i + 2 * length <= len(words):
            if words[i : i + length] == words[i + length : i + 2 * length]:
                del words[i + length : i + 2 * length]
            else:
                i += 1
    return " ".join(words)


def shuffled_tags(text: str, keep: int, seed: int) -> str:
    """Return a list of tags `1girl, red hair, smiling` in another order, the first `keep` in their places.

    Order then carries no meaning, as it should not: the trainer sees another one every epoch.

    Args:
        text: tags with commas between them.
        keep: leading tags that stay.
        seed: of the order.
    """
    tags = [tag.strip() for tag in text.split(",")]
    rest = tags[keep:]
    random.Random(seed).shuffle(rest)
    return ", ".join(tags[:keep] + rest)


@dataclass(frozen=True)
class Wording:
    """How a content becomes the caption or prompt of a style.

    Attributes:
        trigger: word that stands for the style.
        template: of captions and prompts, with {trigger} and {text}.
        keep_tags: captions are lists of tags, shown in TAG_ORDERS orders, the first so many in their place; None: they
            stay as they are.

    Raises:
        InputError: for a template with other fields, or a negative number.
    """

    trigger: str
    template: str = "{trigger}, {text}"
    keep_tags: int | None = None

    def __post_init__(self) -> None:
        check_template(self.template)
        if self.keep_tags is not None and self.keep_tags < 0:
            raise InputError(f"keep_tags is {self.keep_tags}; give a number of tags, at least 0")

    @property
    def orders(self) -> int:
        """Return in how many orders a caption is shown."""
        return 1 if self.keep_tags is None else TAG_ORDERS

    def caption(self, text: str) -> str:
        """Return the full caption or prompt of a content, trigger included."""
        return self.template.format(trigger=self.trigger, text=text)

    def shuffled(self, text: str, order: int) -> str:
        """Return the caption of a picture of the training set, its tags in one of the orders, 0..orders-1."""
        return self.caption(text if self.keep_tags is None else shuffled_tags(text, self.keep_tags, order))
