"""What the captions of the pictures say, where their folder can be read: whether they hold the trigger word."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylelora.data.captions import whole_word
from stylelora.data.folders import Subset, find_subsets, read_captions
from stylelora.migration.rows import Answer, Row, Settings, Status, taken
from stylelora.records import InputError

#: Key of the setting that readers add for the captions.
ON_DISK = "captions on disk"
#: Share of the captions that have to hold a word; a few may have been forgotten.
NEARLY = 0.9


@dataclass(frozen=True)
class Captions:
    """Captions as `fit` will read them.

    Attributes:
        folder: of the pictures.
        texts: the captions; empty if they cannot be read.
        fault: why they cannot be read, else empty.
        there: whether the folder is there.
    """

    folder: str
    texts: Sequence[str] = ()
    fault: str = ""
    there: bool = True

    def __str__(self) -> str:
        return f"{len(self.texts)} in {self.folder}" if self.texts else f"unread in {self.folder}"

    def holding(self, word: str) -> int:
        """Return how many captions hold a word."""
        return sum(bool(whole_word(word).search(text)) for text in self.texts)

    def hold(self, word: str) -> bool:
        """Return whether nearly all captions hold a word."""
        return bool(self.texts) and self.holding(word) >= NEARLY * len(self.texts)

    def trigger(self, named: str) -> str:
        """Return the word that a config names if captions hold it, else the tag that they begin with, else `named`."""
        first = Counter(re.split(r"[,\n]", text)[0].strip() for text in self.texts)
        tag, count = next(iter(first.most_common(1)), ("", 0))
        # the tag of a single caption is not shared, but may be a whole sentence
        return tag if count > 1 and count >= NEARLY * len(self.texts) and not self.hold(named) else named


def read(folder: str) -> Captions:
    """Read the captions of a data folder, if it is there."""
    if not folder:
        return Captions(folder, fault="no folder of pictures is named", there=False)
    try:
        texts = [text for part in find_subsets(Path(folder)) for text in _texts(part)]
    except (InputError, OSError) as error:
        return Captions(folder, fault=str(error), there=os.path.isdir(folder))
    return Captions(folder, texts, "" if texts else f"no picture in {folder} has a caption")


def _texts(part: Subset) -> list[str]:
    """Return the captions of a folder; pictures without one have the words of a folder `10_words`."""
    found = read_captions(part)
    return [text for name in part.names for text in (found[name].texts if name in found else [part.token]) if text]


def row(lines: str = "") -> Row:
    """Row of the captions on disk.

    Args:
        lines: what the trainer does with a caption of several lines, if it does not read all of them.
    """

    def convert(found: Captions, settings: Settings) -> Answer:
        differs = bool(lines) and not settings.on("enable_wildcard")
        if found.there and found.fault:
            return Answer(Status.UNSUPPORTED, f"fit refuses the folder: {found.fault}")
        if found.fault:
            general = f"; of several lines fit reads all, but {lines}" * differs
            return Answer(Status.EQUIVALENT, f"not looked at: {found.fault}{general}")
        if (several := sum("\n" in text for text in found.texts)) and differs:
            return Answer(Status.UNSUPPORTED, f"{several} have several lines, which fit reads as one caption; {lines}")
        return Answer(Status.TAKEN, "as they are")

    return taken("", convert)


def trigger(word: str, settings: Settings, options: Mapping[str, Any]) -> Answer:
    """Return what becomes of a trigger word that captions are to hold by themselves."""
    found: Captions = settings.get(ON_DISK)
    count = f"{found.holding(word)} of {len(found.texts)} captions in {found.folder} hold it"
    if found.hold(word):
        return Answer(Status.EQUIVALENT, count, options)
    unread = f"whether captions hold it cannot be read here ({found.fault})"
    note = (
        f"{unread if found.fault else count}, but predict and test put it before every prompt; give data.trigger the "
        'word that captions hold, or have it added to them by data.template "{trigger}, {text}"'
    )
    return Answer(Status.UNSUPPORTED, note, options)
