"""Letters as people and systems write them: one spelling of what looks the same, and nothing that cannot be seen.

macOS spells `ü` in file names as two characters (NFD), most programs as one (NFC); both look alike.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

#: What stands in texts for line breaks and direction, and is not seen: soft hyphens, zero-width spaces, marks.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
#: Joiners make one sign of two, as in emoji and in Persian; at the end of a word they join nothing.
_LOOSE = re.compile("(?<!\\S)[\u200c\u200d]+|[\u200c\u200d]+(?!\\S)")


def plain(text: str) -> str:
    """Return a text in NFC without what cannot be seen; zero-width joiners stay where they join."""
    return _LOOSE.sub("", _UNSEEN.sub("", unicodedata.normalize("NFC", text)))


def alike(path: Path | str) -> Path:
    """Return the path by which paths are compared: normalised, in NFC."""
    return Path(unicodedata.normalize("NFC", os.path.normpath(path)))


def spellings(name: str) -> list[str]:
    """Return a file name as it is, in NFC and in NFD, each once."""
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))
