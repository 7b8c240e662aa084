"""Pictures of a run: PNGs with generation metadata, a list of them, and grids."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from stylelora.data.images import labelled_grid, save_png, to_pil, to_tensor
from stylelora.files import append, write
from stylelora.lora.read import BASE
from stylelora.runs.infotext import infotext
from stylelora.texts import parse_json, read_text

AXES = ("label", "method", "guidance_scale", "strength")


def save_picture(row: dict, root: Path) -> dict:
    """Save a picture as a PNG with its generation settings as metadata, and list it in `pictures.jsonl`.

    A run that ends early has its pictures listed in the order they were made; one that ends well lists them anew.

    Args:
        row: settings, `image`, uint8 (3, H, W), and `index`, position of the prompt and of the condition.
        root: folder of the run.

    Returns:
        the row, with `file_name` instead of `image`.
    """
    record = {name: value for name, value in row.items() if name not in ("index", "image")}
    name = "pictures/{:03d}-{:02d}.png".format(*row["index"])
    height, width = row["image"].shape[1:]
    save_png(to_pil(row["image"]), root / name, pnginfo=_described(record, width, height))
    saved = {"index": row["index"], "file_name": name, **record}
    append(root / "pictures.jsonl", _lines([saved]))
    return saved


def write_lines(rows: list[dict], path: Path) -> None:
    """Write records as JSON Lines, without their `index`."""
    write(path, _lines(rows))


def _lines(rows: list[dict]) -> str:
    records = [{name: value for name, value in row.items() if name != "index"} for row in rows]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def say_kept(root: Path) -> None:
    """Say which pictures a run that ends early has made."""
    if (file := root / "pictures.jsonl").is_file():
        print(f"{len(read_lines(file))} pictures are in {root / 'pictures'}, listed in {file}", file=sys.stderr)


def read_lines(path: Path) -> list[dict]:
    """Read a file written by `write_lines`."""
    lines = read_text(path).split("\n")  # splitlines would also break at U+2028
    return [parse_json(line, f"{path} line {number}") for number, line in enumerate(lines, start=1) if line]


def write_grids(rows: list[dict], root: Path, columns: str) -> list[Path]:
    """Write `grid.png`, continued in `grid-2.png` and so on if too long; see `arranged`."""
    headings, table = arranged(rows, columns)
    page = max(1, min(40, 8192 // max(_height(root / row["file_name"]) for row in rows)))
    grids = []
    for number, start in enumerate(range(0, len(table), page), start=1):
        part = table[start : start + page]
        shown = [(name, [file and load_png(root / file) for file in files]) for name, files in part]
        grids.append(root / ("grid.png" if number == 1 else f"grid-{number}.png"))
        save_png(labelled_grid(shown, headings), grids[-1])
    return grids


def arranged(rows: list[dict], columns: str) -> tuple[list[str], list[tuple[str, list[str | None]]]]:
    """Arrange pictures in a grid; return the column headings, and the name and files of each row, None for gaps.

    Args:
        rows: records of pictures, sorted by prompt; the base at each guidance scale comes before the blends.
        columns: the axis along columns, one of AXES or condition; rows are prompts and seeds with all values of the
            other axes.
    """
    others = [] if columns == "condition" else [axis for axis in AXES if axis != columns]  # a condition fixes all axes
    blends = [row for row in rows if any(row["weights"])]
    varying = [axis for axis in others if len({row[axis] for row in blends}) > 1]
    plain: dict[tuple, dict[Any, str]] = {}  # base pictures, repeated in every row
    lines: dict[tuple, dict[Any, str]] = {}
    names: dict[tuple, str] = {}
    for row in rows:
        place, file = row["index"][0], row["file_name"]
        prompt_baselines = not any(row["weights"]) and row["label"] != BASE
        if prompt_baselines or (place, row["guidance_scale"]) not in plain:
            plain.setdefault((place, row["guidance_scale"]), {})[row["label"]] = file
            if columns != "guidance_scale" and blends:
                continue
        key = (place, *(row[axis] for axis in others))
        known = {} if columns == "guidance_scale" or not blends else plain[place, row["guidance_scale"]]
        lines.setdefault(key, dict(known))[row[columns]] = file
        shown = varying if any(row["weights"]) else ["label"]
        named = [row[axis] if isinstance(row[axis], str) else f"{axis} {row[axis]:g}" for axis in shown]
        names[key] = ", ".join([row["content"], f"seed {row['seed']}", *named])
    found = list(dict.fromkeys(one for files in lines.values() for one in files))  # prompts may have their own guidance
    headings = [one if isinstance(one, str) else f"{columns} {one:g}" for one in found]
    return headings, [(names[key], [files.get(one) for one in found]) for key, files in lines.items()]


def _height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height


def load_png(path: Path) -> Tensor:
    """Load a PNG as uint8 (3, H, W)."""
    with Image.open(path) as picture:
        return to_tensor(picture)


def _described(row: dict, width: int, height: int) -> PngInfo:
    """Return PNG metadata: the settings as other programs read them, and all of them as JSON."""
    info = PngInfo()
    info.add_itxt("parameters", infotext(row, width, height))
    info.add_itxt("stylelora", json.dumps(row, ensure_ascii=False))
    return info
