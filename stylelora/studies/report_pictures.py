"""The picture matrix of a report: arms x prompts, drawn with equal seeds, the base first."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stylelora.data.images import labelled_grid, to_tensor
from stylelora.files import write
from stylelora.lora.read import BASE
from stylelora.runs.pictures import read_lines
from stylelora.studies.plan import mixture
from stylelora.studies.report_read import Reading

SHOWN = 6  # prompts
SIDE = 96  # px; larger pictures are reduced, so that a report stays small


@dataclass(frozen=True)
class Matrix:
    """Pictures of some prompts.

    Attributes:
        prompts: evenly spaced among all, so none is picked.
        which: which these are among all, as a sentence.
        seed: training seed of the adapters; None: there is no seed that all arms have, so each shows its first.
        rows: label of an arm -> file of each prompt's picture.
    """

    prompts: list[str]
    which: str
    seed: int | None
    rows: dict[str, list[Path]]


def matrix_of(found: Reading) -> Matrix | None:
    """Choose the pictures; None if some are not there any more."""
    common = set.intersection(*(set(arm.seeds) for arm in found.arms))
    seed = min(common, default=None)
    first = found.arms[0]
    base = _files(first.finished[0].folder, BASE)
    every = max(1, len(base) // SHOWN)
    prompts = list(base)[::every][:SHOWN]
    which = f"One prompt in {every} is shown, in the order of the test; none was picked."
    if every == 1:
        which = f"The first {SHOWN} prompts are shown." if len(base) > SHOWN else "All prompts are shown."
    rows = {"base": base}
    for arm in found.arms:
        number = 0 if seed is None else arm.seeds.index(seed)
        rows[arm.label] = _files(arm.finished[number].folder, arm.conditions[number])
    shown = {name for arm in found.arms for name in arm.conditions}
    for name, (weights, _) in first.finished[0].recipes.items():
        if weights and name not in shown:  # of the same test, but not among what is compared
            rows[mixture(name)] = _files(first.finished[0].folder, name)
    if not prompts or any(not row.get(prompt, Path()).is_file() for row in rows.values() for prompt in prompts):
        return None
    return Matrix(prompts, which, seed, {label: [row[prompt] for prompt in prompts] for label, row in rows.items()})


def write_matrix(matrix: Matrix, path: Path) -> None:
    """Write the matrix as one PNG of 256 colours."""
    rows = [(label, [to_tensor(_small(file)) for file in files]) for label, files in matrix.rows.items()]
    names = [prompt if len(prompt) <= 20 else f"{prompt[:19]}..." for prompt in matrix.prompts]
    buffer = io.BytesIO()
    labelled_grid(rows, names).quantize(256).save(buffer, "PNG", optimize=True)
    write(path, buffer.getvalue())


def as_jpeg(file: Path) -> str:
    """Return a picture as a `data:` URL, small."""
    buffer = io.BytesIO()
    _small(file).save(buffer, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _small(file: Path) -> Image.Image:
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)  # never enlarges
    return picture


def _files(folder: Path, condition: str) -> dict[str, Path]:
    """Return the first picture of each prompt of a condition, with its trigger words."""
    files: dict[str, Path] = {}
    for row in read_lines(folder / "pictures.jsonl"):
        if row.get("condition") == condition and row.get("trigger") and "file_name" in row:
            files.setdefault(row["content"], folder / row["file_name"])
    return files
