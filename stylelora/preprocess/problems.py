"""Checks for problems that would harm training."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stylelora.base.token_limit import cut_off
from stylelora.data.images import lost_share
from stylelora.preprocess.duplicates import duplicate_groups
from stylelora.preprocess.normalise import Row
from stylelora.preprocess.quality import enlargement
from stylelora.records import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

#: Name -> what to do about it; WORDS stands for the words that captions share. `allow` and `drop` take these names.
ADVICE = {
    "unreadable": "replace the file or remove it; if allowed, it is left out",
    "too-large": "make it smaller or remove it; if allowed, it is left out",
    "skipped": "save it as PNG or JPEG, or remove it; if allowed, it is left out",
    "no-caption": "write one in a .txt file beside the picture, or name more sources with --captions; "
    "if allowed, the picture is left out",
    "no-trigger": "put {trigger} into --template; if allowed, no trigger word will call up the style",
    "shared-words": 'take them out of the captions with --remove "WORDS"; if allowed, they stand for the style, too',
    "long-caption": "shorten it; if allowed, its end is cut off",
    "duplicate": "remove or drop it; if allowed, the picture counts twice",
    "near-duplicate": "remove or drop it; if allowed, both stay on the same side of the split",
    "cropped": "crop it as you want it, drop it, or train with --data.buckets true; if allowed, its middle is learned",
    "enlarged": "find larger pictures or train at a lower resolution; if allowed, training enlarges them",
    "enlarged-pixels": "give --interpolation nearest if this is pixel art; if allowed, its blocky pixels are learned",
    "blurred": "replace or drop it; if allowed, its blur is learned",
    "jpeg": "find a better copy; if allowed, its JPEG artefacts are learned",
}

ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Limits:
    """Thresholds beyond which a picture has a problem.

    Attributes:
        cropped: largest share of a picture's area that cropping to a square may cut off, 0 to 1.
        enlargement: largest factor by which training may enlarge a picture.
        sharpness: smallest variance of the Laplacian (`quality.sharpness`); below, a picture counts as blurred.
        jpeg_quality: lowest quality of a JPEG, 1..100.
    """

    cropped: float = 0.5
    enlargement: float = 1.0
    sharpness: float = 50.0
    jpeg_quality: int = 50

    def check(self) -> None:
        """Check that all are numbers within their ranges.

        Raises:
            InputError: if one is not.
        """
        ranges = {"cropped": (0, 1), "enlargement": (0, math.inf), "sharpness": (0, math.inf), "jpeg_quality": (0, 100)}
        for name, (least, most) in ranges.items():
            if not (least <= (value := getattr(self, name)) <= most and math.isfinite(value)):
                raise InputError(f"limits.{name} is {value}; give a number from {least} to {most:g}")


@dataclass(frozen=True)
class Problem:
    """One problem of one file.

    Attributes:
        name: key of ADVICE.
        source: path below the source folder.
        detail: description in words.
        words: the words that captions share.
    """

    name: str
    source: str
    detail: str
    words: str = ""

    @property
    def advice(self) -> str:
        """Return what to do about the problem."""
        return ADVICE[self.name].replace("WORDS", self.words)


def picture_problems(row: Row, resolution: int, interpolation: str, limits: Limits) -> list[Problem]:
    """Find the problems of one picture.

    Args:
        row: row of the picture.
        resolution: training resolution in pixels.
        interpolation: resampling filter; `nearest` means pixel art, where enlargement and flat areas are intended.
        limits: thresholds of the checks.
    """
    unusable = {"rejected": "unreadable", "oversized": "too-large", "skipped": "skipped"}
    if row.verdict in unusable:
        return [Problem(unusable[row.verdict], row.source, row.notes[0])]
    if not row.file_name:
        return []
    found = []
    if (lost := _cropped(row, resolution, interpolation)) > limits.cropped:
        found.append(("cropped", f"{_by(row.source_size)} px; cropping to a square loses {100 * lost:.0f} % of it"))
    if interpolation != "nearest":
        factor = enlargement(row.size, resolution)
        if row.grid:
            found.append(("enlarged-pixels", f"{_by(row.source_size)} px, but {_by(row.grid)} cells enlarged"))
        elif factor > limits.enlargement:
            found.append(("enlarged", f"{_by(row.size)} px must grow {factor:.1f} times to reach {resolution}"))
        if row.sharpness < limits.sharpness:
            found.append(("blurred", f"sharpness {row.sharpness:.0f} is below {limits.sharpness:.0f}"))
    if row.jpeg_quality is not None and row.jpeg_quality < limits.jpeg_quality:
        found.append(("jpeg", f"quality {row.jpeg_quality} is below {limits.jpeg_quality}"))
    return [Problem(name, row.source, detail) for name, detail in found]


def caption_problems(source: str, trained: str, trigger: str, tokenizer: CLIPTokenizer) -> list[Problem]:
    """Find the problems of a training caption.

    Args:
        source: path of the picture below the source folder.
        trained: full training caption, with trigger.
        trigger: the style's trigger word.
        tokenizer: tokenizer of the base; its `model_max_length` is the limit.
    """
    found = []
    if trigger not in trained:
        found.append(Problem("no-trigger", source, f"{trained!r} lacks {trigger!r}"))
    if count := cut_off(tokenizer, trained):
        most = tokenizer.model_max_length
        found.append(Problem("long-caption", source, f"{count + most} tokens; the last {count} are cut off"))
    return found


def shared_start(texts: Sequence[str]) -> list[str]:
    """Return the opening words shared by at least four in five captions, such as `a cartoon drawing of`.

    Empty with fewer than five captions, with fewer than two shared words besides articles, or if they contain a comma:
    then the captions share a subject or a tag, not a style phrase.
    """
    words = [text.lower().split() for text in texts]
    shared: list[str] = []
    while len(words) >= 5:
        place = len(shared)
        following = Counter(some[place] for some in words if some[:place] == shared and len(some) > place)
        word, count = following.most_common(1)[0] if following else ("", 0)
        if count < 0.8 * len(words):
            break
        shared.append(word)
    while shared and shared[-1] in ARTICLES:
        shared.pop()
    telling = [word for word in shared if word not in ARTICLES]
    return shared if len(telling) >= 2 and not any("," in word for word in shared) else []


def group_duplicates(rows: Sequence[Row]) -> tuple[list[Problem], dict[str, str]]:
    """Find exact and near duplicates.

    Args:
        rows: rows of pictures, best first; the first of each group is kept.

    Returns:
        a problem for every picture of a group except the first; and `source` -> group hash for all its pictures, which
        keeps a group on one side of the train/held-out split.
    """
    problems, groups = [], {}
    for group in duplicate_groups([row.source_sha256 for row in rows], [int(row.phash, 16) for row in rows]):
        first, *others = (rows[i] for i in group.members)
        smallest = min(row.sha256 for row in (first, *others))  # usually unchanged when the group grows
        name = hashlib.sha256(smallest.encode()).hexdigest()  # hash again: else the smallest of many is always held out
        groups |= {row.source: name for row in (first, *others)}
        seen = {first.source_sha256: first.source}
        for row in others:
            if twin := seen.get(row.source_sha256):
                problems.append(Problem("duplicate", row.source, f"the same file as {twin}"))
            else:
                problems.append(Problem("near-duplicate", row.source, f"nearly the same as {first.source}"))
                seen[row.source_sha256] = row.source
    return problems, groups


def _cropped(row: Row, resolution: int, interpolation: str) -> float:
    """Return the share of a picture that is lost until it is a square, by preprocess (`crop square`) or in training."""
    short, long = sorted(row.source_size)
    before = 1 - short / long if row.size[0] == row.size[1] else 0.0
    return max(before, lost_share(row.size, (resolution, resolution), interpolation))


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
