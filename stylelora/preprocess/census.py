"""Report on a raw folder: terminal table, JSON and HTML page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from stylelora.data.captions import MACHINES, Caption
from stylelora.data.folders import repeats_of
from stylelora.data.scan import WRITTEN_BY
from stylelora.preprocess.normalise import Row
from stylelora.preprocess.problems import ADVICE, Problem
from stylelora.runs.html import inline, render
from stylelora.texts import printable

SHOWN = 400  # pictures on the contact sheet
SIDE = 96  # side of a thumbnail in pixels


@dataclass(frozen=True)
class Entry:
    """Everything known about one source file.

    Attributes:
        row: result of normalising it.
        problems: problems found.
        caption: content caption; None if there is none.
        trained: full training caption, with trigger; empty without a caption.
        group: hash shared by near-duplicates; empty if there are none.
        used: whether it is in the training set.
    """

    row: Row
    problems: tuple[Problem, ...]
    caption: Caption | None = None
    trained: str = ""
    group: str = ""
    used: bool = False

    @property
    def repeats(self) -> int:
        """How often it is shown per epoch, by the name of its folder below the source, such as `10_cat`."""
        return repeats_of(Path(self.row.source).parent.name)


def _sources(entries: Sequence[Entry]) -> str:
    counts = Counter(entry.caption.source for entry in entries if entry.caption)
    return "captions: " + (", ".join(f"{count} {source}" for source, count in counts.most_common()) or "none")


def _kinds(entries: Sequence[Entry], settings: dict) -> Iterator[tuple[str, str, list[Problem]]]:
    """Yield name, state and occurrences of each kind of problem found."""
    found = defaultdict(list)
    for entry in entries:
        for problem in entry.problems:
            found[problem.name].append(problem)
    for name in ADVICE:
        state = "dropped" if name in settings["drop"] else "allowed" if name in settings["allow"] else "PROBLEM"
        if found[name]:
            yield name, state, found[name]


def table(entries: Sequence[Entry], settings: dict) -> str:
    """Format the terminal report: one line per verdict and per kind of problem."""
    verdicts = Counter(entry.row.verdict for entry in entries)
    verdicts["caption files"] = verdicts.pop("caption", 0)
    lines = [", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count), _sources(entries)]
    for name, state, some in _kinds(entries, settings):
        lines.append(f"{state:8} {name:16} {len(some):6}  {some[0].advice}")
        lines += [printable(f"{'':8} {problem.source}: {problem.detail}") for problem in some[:3]]
        lines += [f"{'':8} ..."] if len(some) > 3 else []
    return "\n".join(lines)


def as_json(entries: Sequence[Entry], settings: dict) -> dict:
    """Return the census as a JSON-serialisable dict; `normalise.read_rows` reads its `files`."""
    return {
        "written_by": WRITTEN_BY,
        "settings": settings,
        "verdicts": dict(Counter(entry.row.verdict for entry in entries)),
        "problems": dict(Counter(problem.name for entry in entries for problem in entry.problems)),
        "used": sum(entry.used for entry in entries),
        "files": [
            asdict(entry.row)
            | {"used": entry.used, "caption": entry.trained, "caption_source": entry.caption and entry.caption.source}
            | {"problems": {problem.name: problem.detail for problem in entry.problems}, "group": entry.group}
            for entry in entries
        ],
    }


def page(entries: Sequence[Entry], settings: dict, folder: Path, written: bool = True) -> str:
    """Render a self-contained HTML page: counts, problems, sizes, and the pictures.

    Args:
        entries: all files.
        settings: settings of the run.
        folder: folder of the normalised pictures.
        written: whether the training set was written.
    """
    pictures = [entry for entry in entries if entry.row.file_name]
    others = [entry.row for entry in entries if not entry.row.file_name and entry.row.verdict != "caption"]
    return render(
        "census.html",
        **{name: printable(str(settings[name])) for name in ("style", "trigger", "resolution", "interpolation")},
        written=written,
        used=sum(entry.used for entry in entries),
        pictures=len(pictures),
        sources=_sources(entries).capitalize(),
        problems=[
            {"name": name, "state": state, "count": len(some), "advice": some[0].advice, "more": max(0, len(some) - 5)}
            | {"cases": [printable(f"{problem.source}: {problem.detail}") for problem in some[:5]]}
            for name, state, some in _kinds(entries, settings)
        ],
        bars=histogram([min(entry.row.source_size) for entry in pictures], settings["resolution"]),
        figures=[_figure(entry, folder) for entry in sorted(pictures, key=lambda e: not e.problems)[:SHOWN]],
        others=[
            {"source": printable(row.source), "verdict": row.verdict, "notes": printable("; ".join(row.notes))}
            for row in others
        ],
    )


def histogram(sides: Sequence[int], resolution: int) -> list[dict]:
    """Histogram of picture sides, with bins of doubling width.

    Returns:
        `label`, `count`, `height` (0..100) and `small` (below the resolution) of each bin.
    """
    edges = [2**power for power in range(min(sides).bit_length() - 1, max(sides).bit_length())] if sides else []
    counts = [sum(low <= side < 2 * low for side in sides) for low in edges]
    return [
        {
            "label": f"{low}-{2 * low - 1}" if low > 1 else "1",
            "count": count,
            "height": round(100 * count / max(counts), 1),
        }
        | {"small": 2 * low <= resolution}
        for low, count in zip(edges, counts, strict=True)
    ]


def _figure(entry: Entry, folder: Path) -> dict:
    row, caption = entry.row, entry.caption
    with Image.open(folder / row.file_name) as image:
        small = image.convert("RGB")
    factor = SIDE / max(small.size)
    interpolation = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    small = small.resize([max(1, round(side * factor)) for side in small.size], interpolation)
    return {
        "image": inline(small),
        "used": entry.used,
        "caption": printable(entry.trained),
        "machine": caption.source if caption and caption.source in MACHINES else "",
        "source": printable(row.source),
        "size": f"{row.source_size[0]}x{row.source_size[1]}, now {row.size[0]}x{row.size[1]}",
        "notes": [printable(note) for note in row.notes],
        "problems": [problem.name for problem in entry.problems],
    }
