"""Find a caption for every picture by trying several sources in order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from stylelora.data.captions import (
    MACHINES,
    SOURCES,
    Caption,
    check_template,
    clean,
    sidecar,
    words_of,
)
from stylelora.data.listings import Listed, metadata
from stylelora.data.reading import open_picture
from stylelora.data.unicode import alike, spellings
from stylelora.files import append
from stylelora.preprocess.normalise import Row
from stylelora.records import InputError
from stylelora.texts import printable, read_text

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)
Captioner = Callable[[Sequence["Image"]], Sequence[str | None]]
BATCH = 64  # pictures per call of a captioner


@dataclass(frozen=True)
class Captioning:
    """How automatic captions are made, where nobody has written one.

    Attributes:
        template: wording for the source `template`; {name} is the file's name in words, {folder} its folder's.
        blip: hub id or folder of the BLIP for the source `blip`.
        scorer: CLIP for the source `retrieval`: mini, a folder or a hub id.
        vocabulary: text file with one possible caption per line, for `retrieval`; default: what mini knows.
        device: where BLIP and the CLIP run, such as cpu or cuda.
    """

    template: str = "{name}"
    blip: str = "Salesforce/blip-image-captioning-base"
    scorer: str = "mini"
    vocabulary: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class CaptionOptions:
    """Where captions are looked for, and how they are cleaned.

    Attributes:
        sources: some of `captions.SOURCES`; the first that has a caption gives it.
        remove: phrases to take out.
        trigger: the style's trigger word, taken out as well.
        made: how the sources that nobody wrote make captions.
    """

    sources: Sequence[str]
    remove: Sequence[str]
    trigger: str
    made: Captioning

    def __post_init__(self) -> None:
        if unknown := [name for name in self.sources if name not in SOURCES]:
            raise InputError(f"caption source {unknown[0]!r} is unknown; choose from {', '.join(SOURCES)}")
        if len(set(self.sources)) < len(self.sources) or not self.sources:
            raise InputError("captions must name at least one source and none twice")
        check_template(self.made.template, ("name", "folder"))


def load_captioners(options: CaptionOptions) -> dict[str, Captioner]:
    """Load the captioners up front, so that a missing one fails before any work is done.

    Raises:
        InputError: if a network, the device or the vocabulary cannot be used.
    """
    captioners: dict[str, Captioner] = {}
    if set(MACHINES) & set(options.sources):
        check_device(options.made.device)
    if "blip" in options.sources:
        from stylelora.preprocess.blip import BlipCaptioner

        captioners["blip"] = BlipCaptioner(options.made.blip, options.made.device)
    if "retrieval" in options.sources:
        from stylelora.metrics.encoders import ClipEncoder
        from stylelora.preprocess.retrieval import RetrievalCaptioner

        made = options.made
        words = read_text(Path(made.vocabulary)).split("\n") if made.vocabulary else None
        captioners["retrieval"] = RetrievalCaptioner(ClipEncoder(made.scorer, made.device), words)
    return captioners


def check_device(name: str) -> None:
    """Check that a device is available.

    Raises:
        InputError: if it is not; the message says what to do.
    """
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here; give cpu or one that PyTorch finds") from error


def find_captions(
    root: Path,
    rows: Sequence[Row],
    folder: Path,
    listings: Sequence[Path],
    options: CaptionOptions,
    captioners: dict[str, Captioner],
) -> tuple[dict[str, Caption], dict[str, str]]:
    """Find captions for the pictures.

    Args:
        root: the source folder.
        rows: rows of the pictures.
        folder: folder of the normalised pictures.
        listings: the `metadata` files found.
        options: caption sources and cleaning.
        captioners: loaded networks by source name.

    Returns:
        two dicts keyed by the rows' `source`: captions, and the reason for each picture without one.

    Raises:
        InputError: if a metadata file is damaged.
    """
    found: dict[str, Caption] = {}
    why = {row.source: f"none in {', '.join(options.sources)}" for row in rows}
    listed = metadata(listings) if "metadata" in options.sources else {}
    if lost := sorted(str(path) for path in listed if not any(map(os.path.isfile, spellings(str(path))))):
        log.warning("captions of %d files that do not exist are ignored, such as %s", len(lost), printable(lost[0]))
    asking = list(rows)
    for source in options.sources:
        if source in captioners:
            answers = _described(captioners[source], f"{source} {options}", asking, folder)
        else:
            answers = [_written(source, root / row.source, listed, options) for row in asking]
        next_asking = []
        for row, answer in zip(asking, answers, strict=True):
            if isinstance(answer, InputError):  # the user must fix this; do not fall through to the next source
                why[row.source] = str(answer)
            elif words := clean(answer or "", options.remove, options.trigger):
                found[row.source] = Caption(words, source)
                del why[row.source]
            else:
                next_asking.append(row)
        asking = next_asking
    return found, why


def _written(source: str, path: Path, listed: dict[Path, Listed], options: CaptionOptions) -> str | InputError | None:
    """Return a caption from a source that needs no network."""
    if source in ("sidecar", "metadata"):
        try:
            beside_it = sidecar(path) if "sidecar" in options.sources else None
        except InputError as error:
            return error
        listing = listed.get(alike(path))  # none if the source is not asked for
        if beside_it and listing and listing.text and not _agree(beside_it, listing.text, options):
            what = f"the text file beside it has another caption than {listing.place}"
            return InputError(f"{what}; keep one, or name one source with --captions")
        return beside_it if source == "sidecar" else listing and listing.text
    fields = {"name": words_of(path.stem), "folder": words_of(path.parent.name)}
    template = {"filename": "{name}", "template": options.made.template}[source]
    if any(not words and f"{{{field}}}" in template for field, words in fields.items()):
        return None
    return template.format(**fields)


def _agree(first: str, second: str, options: CaptionOptions) -> bool:
    return clean(first, options.remove, options.trigger) == clean(second, options.remove, options.trigger)


def _described(captioner: Captioner, key: str, rows: Sequence[Row], folder: Path) -> list[str | None]:
    """Caption pictures with a network; answers of an interrupted run are reused.

    Args:
        captioner: the network.
        key: everything its answers depend on besides the picture.
        rows: rows of the pictures.
        folder: folder of the normalised pictures, where answers are stored too.
    """
    memory, known = folder / "captions.jsonl", {}
    for line in memory.read_text(encoding="utf-8").split("\n") if memory.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):  # last line of a killed run
            known |= dict([json.loads(line)])
    names = {row.source: hashlib.sha256(f"{key} {row.sha256}".encode()).hexdigest() for row in rows}
    left = [row for row in rows if names[row.source] not in known]
    asking, hidden = f"asking {key.split()[0]}", None if left else True
    for start in tqdm(range(0, len(left), BATCH), asking, unit="batch", disable=hidden):
        some = left[start : start + BATCH]
        images = [open_picture(folder / row.file_name) for row in some]
        answers = {names[row.source]: answer for row, answer in zip(some, captioner(images), strict=True)}
        append(memory, "".join(f"\n{json.dumps(one)}\n" for one in answers.items()))
        known |= answers
    return [known[names[row.source]] for row in rows]
