"""The style of each adapter, and warnings where it is not tested as it was trained."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from stylelora.data.scan import content_hash
from stylelora.lora.read import Adapter
from stylelora.records import InputError, Picture


class StyleData(Protocol):
    """Data of a style that adapters are tested on.

    Attributes:
        held_out: pictures that were not trained on.
        trigger: trigger word in the captions.
        resolution: side in pixels.
    """

    held_out: list[Picture]
    trigger: str
    resolution: int


def styles_of(adapters: Sequence[Adapter], known: Collection[str] = ()) -> dict[str, str]:
    """Return the style of each adapter by its name: from the file's metadata, or else the name itself.

    One that states none, and has none's name, is of the style that is left, if only one is.

    Args:
        adapters: the adapters.
        known: styles that there is data of.

    Raises:
        InputError: if two adapters have the same style.
    """
    styles = {adapter.name: adapter.metadata.get("style", adapter.name) for adapter in adapters}
    silent = [one.name for one in adapters if "style" not in one.metadata and one.name not in known]
    left = [style for style in known if style not in styles.values()]
    if len(silent) == len(left) == 1:
        styles[silent[0]] = left[0]
    names: dict[str, list[str]] = {}
    for name, style in styles.items():
        names.setdefault(style, []).append(name)
    if shared := next((style for style, found in names.items() if len(found) > 1), None):
        raise InputError(
            f"{' and '.join(names[shared])} are adapters of the same style, {shared}, which one test cannot tell "
            "apart; test each in a run of its own, and compare these with `python cli.py compare`"
        )
    return styles


def noted_resolution(notes: Mapping[str, str]) -> int | None:
    """Return the side in pixels that a file notes; kohya writes `(512, 512)`, others `512x512`; None without it."""
    noted = (notes.get(name, "") for name in ("resolution", "modelspec.resolution", "ss_resolution"))
    return next((int(found.group()) for found in (re.search(r"\d{1,5}", one) for one in noted) if found), None)


def doubts(adapters: Sequence[Adapter], data: Mapping[str, StyleData], base: str, side: int) -> Iterator[str]:
    """Yield a warning for everything that cannot be measured, or differs from how the adapter was trained.

    Args:
        adapters: the adapters under test.
        data: name of a style -> its pictures.
        base: the base model, as the test names it.
        side: side of the generated pictures, in pixels.
    """
    styles = styles_of(adapters, data)
    if lacking := [f"{name} ({style})" for name, style in styles.items() if style not in data]:
        yield f"no data for the style of {', '.join(lacking)}, so their style and skill are not measured"
    for adapter in adapters:
        style, notes = data.get(styles[adapter.name]), adapter.metadata
        here = [("base", Path(base).name), ("resolution", str(side)), ("trigger", notes.get("trigger", ""))]
        if style is not None:
            here += [("trigger", style.trigger), ("resolution", str(style.resolution))]
            if notes.get("held_out") != content_hash(style.held_out):
                yield (
                    f"{adapter.name} may have been trained on some of the pictures of {styles[adapter.name]} that it "
                    "is measured with: its file names other held-out pictures, or none; give the style the root and "
                    "held_out of its training"
                )
        there = {
            "base": Path(notes.get("base", "")).name,
            "resolution": str(noted_resolution(notes) or ""),
            "trigger": notes.get("modelspec.trigger_phrase", notes.get("trigger")),  # an option may name another
        }
        if other := dict.fromkeys(
            f"{name} {there[name]}, not {value or 'none'}"
            for name, value in here
            if there[name] not in (None, "", value)
        ):
            yield f"{adapter.name} was trained with {'; '.join(other)}; the test differs"
    if unused := [style for style in data if style not in styles.values()]:
        yield f"no adapter of the styles {', '.join(unused)}, so their attainment has no scale"
