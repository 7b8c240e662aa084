"""Convert each raw picture to a clean PNG and a row of the report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path

from PIL.Image import Image, Resampling

from stylelora.data.images import save_png
from stylelora.data.reading import TooLarge, read_picture
from stylelora.data.scan import read_census
from stylelora.files import append, write
from stylelora.preprocess.duplicates import perceptual_hash
from stylelora.preprocess.quality import Grid, native_grid, sharpness, to_native
from stylelora.records import InputError
from stylelora.texts import printable

ROWS = "rows.jsonl"  # rows of an unfinished run
FEW = 16  # below this many pictures, starting processes takes longer than the work
VERSION = 2  # row format; changing it invalidates all rows


#: Words in a file name that make Hugging Face's imagefolder infer a split and load only such files.
_SPLITS = re.compile(r"(?<![^\W_])(train(ing)?|test(ing)?|eval(uation)?|val(id(ation)?)?|dev)(?![^\W_])", re.I)


@dataclass(frozen=True)
class Conversion:
    """How pictures are converted.

    Attributes:
        resolution: side in pixels that training brings pictures to.
        interpolation: how pictures are resized; `nearest` keeps pixel art at one pixel per cell.
        resize: `keep` the sizes, or `down`: bring the shorter side down to the resolution; nothing is enlarged.
        crop: `keep` the shape, or `square`: cut the middle out.
        background: colour that transparent pictures are flattened onto, a name or #rrggbb.
    """

    resolution: int
    interpolation: str
    resize: str
    crop: str
    background: str


@dataclass(frozen=True)
class Row:
    """Result of processing one source file.

    Attributes:
        source: path below the source folder.
        verdict: accepted, converted (with notes), rejected or oversized (with the reason); for other files caption, or
            skipped or ignored (with the reason; ignored files are surely irrelevant).
        notes: what was changed, or why it was rejected, skipped or ignored.
        key: hash of everything the fields below depend on. They are empty if there is no picture.
        file_name: file name of the normalised picture.
        sha256: hash of its bytes.
        source_sha256: hash of the source's bytes.
        format: Pillow's name of the source's format.
        source_size: width and height of the source in pixels, upright.
        size: width and height of the normalised picture.
        grid: cells across and down, if the source is pixel art enlarged by an integer factor.
        jpeg_quality: 1..100, if the source is a JPEG.
        sharpness: of the source, see `quality.sharpness`.
        phash: perceptual hash of the normalised picture, 16 hex digits.
    """

    source: str
    verdict: str
    notes: tuple[str, ...]
    key: str = ""
    file_name: str = ""
    sha256: str = ""
    source_sha256: str = ""
    format: str = ""
    source_size: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    grid: tuple[int, int] | None = None
    jpeg_quality: int | None = None
    sharpness: float = 0.0
    phash: str = ""


def output_name(source: str) -> str:
    """Return a readable, portable PNG name for a source; unique even if stems are equal."""
    stem = unicodedata.normalize("NFC", str(Path(source).with_suffix("")))
    readable = "".join(char if char.isalnum() or char in "-_" else "_" for char in stem).strip("_")
    readable = _SPLITS.sub(r"\1s", readable)
    while len(readable.encode()) > 80:
        readable = readable[:-1]
    return f"{readable}-{hashlib.sha256(source.encode(errors='surrogateescape')).hexdigest()[:8]}.png"


def resized(image: Image, conversion: Conversion) -> tuple[Image, Grid | None]:
    """Resize and crop an RGB picture; also return the source's grid if it is enlarged pixel art."""
    grid = native_grid(image)
    if grid and conversion.interpolation == "nearest":
        image = to_native(image, grid)
    if conversion.crop == "square":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    factor = conversion.resolution / min(image.size)
    if conversion.resize == "down" and factor < 1 and conversion.interpolation != "nearest":  # pixels are never mixed
        image = image.resize(
            [max(1, round(side * factor)) for side in image.size], Resampling[conversion.interpolation.upper()]
        )
    return image, grid


def normalise(source: Path, name: str, folder: Path, conversion: Conversion, known: Row | None, known_in: Path) -> Row:
    """Write one picture as an RGB PNG without metadata.

    Args:
        source: the file.
        name: its path below the source folder.
        folder: output folder of the PNG.
        conversion: conversion options.
        known: row of an earlier run; reused if source, conversion and PNG are unchanged.
        known_in: folder of that earlier PNG.

    Returns:
        the row; for an unusable picture, a rejected one with the reason.
    """
    target = folder / output_name(name)
    pixels = b""
    with contextlib.suppress(OSError):  # processed again, which reports what is wrong
        if known and known.file_name and known.key == row_key(file_sha256(source), conversion):
            pixels = (known_in / known.file_name).read_bytes()
    if known and hashlib.sha256(pixels).hexdigest() == known.sha256:
        write(target, pixels, sync=False)
        return known
    try:
        reading = read_picture(source, conversion.background)
        image, grid = resized(reading.image, conversion)
    except InputError as error:
        verdict = "oversized" if isinstance(error, TooLarge) else "rejected"
        return Row(name, verdict, (str(error).removeprefix(f"{printable(source)} "),))
    except MemoryError:
        return Row(name, "oversized", ("does not fit into memory; make it smaller",))
    notes = reading.notes
    if grid and conversion.interpolation == "nearest":
        notes += (
            f"pixel art of {grid.size[0]}x{grid.size[1]} enlarged {grid.cell} times: reduced to its original pixels",
        )
    save_png(image, target, sync=False)  # the row, which comes later, has its hash
    return Row(
        source=name,
        verdict="converted" if notes else "accepted",
        notes=notes,
        key=row_key(reading.sha256, conversion),
        file_name=target.name,
        sha256=file_sha256(target),
        source_sha256=reading.sha256,
        format=reading.format,
        source_size=reading.image.size,
        size=image.size,
        grid=grid.size if grid else None,
        jpeg_quality=reading.jpeg_quality,
        sharpness=round(sharpness(reading.image), 2),
        phash=f"{perceptual_hash(image):016x}",
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_key(sha256: str, conversion: Conversion) -> str:
    """Return the hash of everything a row depends on."""
    return hashlib.sha256(f"{VERSION} {sha256} {asdict(conversion)}".encode()).hexdigest()


def normalise_all(
    sources: Sequence[str], root: Path, folder: Path, conversion: Conversion, earlier: Sequence[Path], workers: int
) -> list[Row]:
    """Normalise pictures in several processes; results of interrupted and earlier runs are reused.

    Args:
        sources: paths relative to `root`.
        root: the source folder.
        folder: output folder of the PNGs and `rows.jsonl`.
        conversion: conversion options.
        earlier: folders of earlier runs, each with rows in `rows.jsonl` or `census.json`.
        workers: number of processes.

    Returns:
        rows in the order of `sources`.
    """
    from tqdm import tqdm

    known = {row.source: (row, place) for place in earlier for row in read_rows(place)}
    jobs = [(root / name, name, folder, conversion, *known.get(name, (None, folder))) for name in sources]
    rows: dict[str, Row] = {}
    bar = tqdm(total=len(jobs), desc="converting pictures", unit="picture", disable=None)  # None: only on a terminal
    with bar:
        for row in _run(jobs, workers if len(jobs) >= FEW else 1):
            rows[row.source] = row
            append(folder / ROWS, f"\n{json.dumps(asdict(row))}\n")  # after its PNG: a row promises a whole picture
            bar.update()
    return [rows[name] for name in sources]


def _run(jobs: list[tuple], workers: int) -> Iterator[Row]:
    if workers == 1:
        yield from (normalise(*job) for job in jobs)
        return
    left = dict(enumerate(jobs))
    with _pool(workers) as pool, contextlib.suppress(BrokenProcessPool):
        numbers = {pool.submit(normalise, *job): number for number, job in left.items()}
        for future in as_completed(numbers):
            row = future.result()
            del left[numbers[future]]
            yield row
    while left:  # a picture crashed a library; process one at a time to find which
        with _pool(1) as pool:
            for number in list(left):
                job = left.pop(number)
                try:
                    yield pool.submit(normalise, *job).result()
                except BrokenProcessPool:
                    why = "its reader crashed or ran out of memory; make it smaller or save it in another format"
                    yield Row(job[1], "rejected", (why,))
                    break


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # spawn, not fork: forking a process with library threads can hang
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}  # Ctrl-C is for the parent
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **ignore)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def read_rows(folder: Path) -> list[Row]:
    """Read a run's rows so far, skipping an incomplete last line and rows of an older format."""
    rows = (read_census(folder) or {}).get("files", [])
    if (folder / ROWS).is_file():
        for line in (folder / ROWS).read_text(encoding="utf-8").split("\n"):
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    names = [field.name for field in fields(Row)]
    return [Row(**{name: _frozen(row[name]) for name in names}) for row in rows if row.keys() >= set(names)]


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
