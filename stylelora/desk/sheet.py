"""The pictures of a mix as a table on the page, and as a PNG that knows its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylelora.data.images import labelled_grid, save_png, to_pil
from stylelora.desk.drawing import Desk
from stylelora.desk.mix import Mix
from stylelora.records import InputError
from stylelora.runs.html import inline, render
from stylelora.runs.infotext import infotext
from stylelora.texts import parse_json

NOTE = "stylelora"  # text of a PNG, as of `save_picture`
SMALL = 256  # pictures up to this side are enlarged with sharp pixels

#: Weights of a column -> its pictures, as of `Desk.draw`; a column that is being drawn is not there.
Columns = Mapping[tuple[float, ...], Sequence[dict]]


def as_html(mix: Mix, labels: Mapping[tuple[float, ...], str], drawn: Columns) -> str:
    """Return the table of a mix: a row for each prompt and seed, a column for the base, each LoRA and the blend.

    Args:
        mix: settings.
        labels: heading of each column.
        drawn: pictures; columns that are missing are shown as being drawn.
    """
    columns = [
        {"label": label, "title": f"{label}, {mix.method}", "score": _score(drawn.get(weights, ()))}
        for weights, label in labels.items()
    ]
    rows = [
        {"label": name, "cells": [_cell(drawn[one][place]) if one in drawn else None for one in labels]}
        for place, name in enumerate(row_names(mix))
    ]
    return render("desk_sheet.html", columns=columns, rows=rows)


def row_names(mix: Mix) -> list[str]:
    """Return what each row of pictures is of."""
    return [f"{one.prompt}, seed {one.seed}" for one in mix.samples()]


def _score(rows: Sequence[dict]) -> float | None:
    scores = [row["score"] for row in rows if row["score"] is not None]
    return sum(scores) / len(scores) if scores else None


def _cell(row: dict) -> dict[str, Any]:
    return shown(row) | {"alt": f"{row['condition']}: {row['prompt']}, seed {row['seed']}"}


def shown(row: dict) -> dict[str, Any]:
    """Return how a picture stands on the page."""
    return {"src": inline(to_pil(row["image"])), "small": row["image"].shape[-1] <= SMALL}


def save_sheet(
    path: Path, table: Sequence[tuple[str, Sequence]], headings: Sequence[str], note: dict, row: dict
) -> None:
    """Write a grid of pictures as a PNG with its settings.

    Args:
        path: file to write.
        table: name and pictures, uint8 (3, H, W), of each row.
        headings: of the columns.
        note: settings, to be read by `read_note`.
        row: one of the pictures, whose settings other programs may read.
    """
    grid = labelled_grid(table, headings)
    info = PngInfo()
    info.add_itxt("parameters", infotext(row, *row["image"].shape[:0:-1]))
    info.add_itxt(NOTE, json.dumps({"desk": note}, ensure_ascii=False))
    save_png(grid, path, info)


def note_of(mix: Mix, desk: Desk) -> dict[str, Any]:
    """Return what a PNG knows of a mix: its settings, the base, and the hash of each LoRA's file."""
    hashes = {name: one.sha256 for name, one in zip(mix.adapters, desk.adapters(mix), strict=True)}
    return {"mix": asdict(mix), "base": desk.base, "sha256": hashes}


def read_note(path: Path) -> dict[str, Any]:
    """Read the settings of a PNG that the desk has written.

    Raises:
        InputError: if it is no picture, or has none.
    """
    try:
        with Image.open(path) as picture:
            text = picture.info.get(NOTE, "{}")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is no picture; open a PNG that was taken from the desk") from error
    note = parse_json(text, path.name)
    note = note.get("desk") if isinstance(note, dict) else None
    parts = note if isinstance(note, dict) else {}
    if not all(isinstance(parts.get(name), kind) for name, kind in (("mix", dict), ("base", str), ("sha256", dict))):
        raise InputError(f"{path.name} has no settings of the desk; open a PNG that was taken from it")
    return note
