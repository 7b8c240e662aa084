"""What was found in a raw folder: a table for the terminal, a page to look at."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from PIL import Image

from stylelora.data.captions import MACHINES, Caption
from stylelora.data.reading import printable
from stylelora.data.scan import WRITTEN_BY
from stylelora.preprocess.normalise import Row
from stylelora.preprocess.problems import ADVICE, Problem

SHOWN = 400  # pictures on the contact sheet
SIDE = 96  # px of a picture there


@dataclass(frozen=True)
class Entry:
    """One file of the source and all that is known of it.

    Attributes:
        row: what became of the picture.
        problems: what is wrong with it.
        caption: what it shows; None if there is none.
        trained: the text that training uses, with trigger; empty without caption.
        group: hash that near-duplicates share; empty if there are none.
        used: whether it is in the training set.
    """

    row: Row
    problems: tuple[Problem, ...]
    caption: Caption | None = None
    trained: str = ""
    group: str = ""
    used: bool = False


def _sources(entries: Sequence[Entry]) -> str:
    counts = Counter(entry.caption.source for entry in entries if entry.caption)
    return "captions: " + (", ".join(f"{count} {source}" for source, count in counts.most_common()) or "none")


def _kinds(entries: Sequence[Entry], settings: dict) -> Iterator[tuple[str, str, list[Problem]]]:
    """Yield name, state and cases of each kind of problem that was found."""
    found = defaultdict(list)
    for entry in entries:
        for problem in entry.problems:
            found[problem.name].append(problem)
    for name in ADVICE:
        state = "dropped" if name in settings["drop"] else "allowed" if name in settings["allow"] else "PROBLEM"
        if found[name]:
            yield name, state, found[name]


def table(entries: Sequence[Entry], settings: dict) -> str:
    """Return what was found, a line for each verdict and for each kind of problem."""
    verdicts = Counter(entry.row.verdict for entry in entries)
    verdicts["caption files"] = verdicts.pop("caption", 0)
    lines = [", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count), _sources(entries)]
    for name, state, some in _kinds(entries, settings):
        lines.append(f"{state:8} {name:16} {len(some):6}  {ADVICE[name]}")
        lines += [printable(f"{'':8} {problem.source}: {problem.detail}") for problem in some[:3]]
        lines += [f"{'':8} ..."] if len(some) > 3 else []
    return "\n".join(lines)


def as_json(entries: Sequence[Entry], settings: dict) -> dict:
    """Return the census as JSON can write it; `normalise.read_rows` reads its `files`."""
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


def page(entries: Sequence[Entry], settings: dict, folder: Path) -> str:
    """Return one HTML page that needs nothing else: counts, sizes, problems, and the pictures.

    Args:
        entries: all files.
        settings: of the run.
        folder: where the normalised pictures are.
    """
    pictures = [entry for entry in entries if entry.row.file_name]
    used = sum(entry.used for entry in entries)
    parts = [
        _HEAD.format(style=_safe(settings["style"])),
        f"<p><b>{used}</b> of {len(pictures)} pictures are in the training set. Trigger <code>"
        f"{_safe(settings['trigger'])}</code>, {settings['resolution']} px, {settings['interpolation']}.</p>",
        f"<p>{_safe(_sources(entries))}.</p>",
        "<h2>Shorter side of the sources</h2>",
        histogram([min(entry.row.source_size) for entry in pictures], settings["resolution"]),
        "<h2>Problems</h2>",
        _problem_rows(entries, settings),
        "<h2>Pictures</h2>",
        f"<p>{min(len(pictures), SHOWN)} of {len(pictures)}, those with problems first.</p>" if pictures else "",
        '<div class="sheet">',
        *(_figure(entry, folder) for entry in sorted(pictures, key=lambda e: not e.problems)[:SHOWN]),
        "</div>",
        "<h2>Files that are no pictures, or none that can be used</h2><table>",
        *(
            f"<tr><td>{_safe(e.row.source)}<td>{e.row.verdict}<td>{_safe('; '.join(e.row.notes))}"
            for e in entries
            if not e.row.file_name and e.row.verdict != "caption"
        ),
        "</table>",
    ]
    return "\n".join(parts)


def _safe(text: str) -> str:
    return escape(printable(text))


def histogram(sides: Sequence[int], resolution: int) -> str:
    """Return an SVG of how many pictures have which side, in bins that double; smaller than `resolution` in red."""
    edges = [2**power for power in range(min(sides, default=8).bit_length() - 1, max(sides, default=8).bit_length())]
    counts = [sum(low <= side < 2 * low for side in sides) for low in edges]
    highest, width = max(counts, default=0) or 1, 80
    bars = []
    for i, (low, count) in enumerate(zip(edges, counts, strict=True)):
        height = 100 * count / highest
        colour = "#c0392b" if 2 * low <= resolution else "#2e7d5b"
        bars.append(
            f'<rect x="{i * width + 6}" y="{120 - height:.1f}" width="{width - 12}" height="{height:.1f}" '
            f'fill="{colour}"/><text x="{(i + 0.5) * width}" y="{115 - height:.1f}">{count or ""}</text>'
            f'<text x="{(i + 0.5) * width}" y="136">{low}-{2 * low - 1}</text>'
        )
    return f'<svg viewBox="0 0 {len(edges) * width} 142" width="{len(edges) * width}">{"".join(bars)}</svg>'


def _problem_rows(entries: Sequence[Entry], settings: dict) -> str:
    rows = []
    for name, state, some in _kinds(entries, settings):
        shown = "<br>".join(_safe(f"{problem.source}: {problem.detail}") for problem in some[:5])
        more = f"<br>and {len(some) - 5} more" if len(some) > 5 else ""
        rows.append(f"<tr><td><b>{name}</b><td>{state}<td>{len(some)}<td>{shown}{more}<td>{_safe(ADVICE[name])}")
    return f"<table>{''.join(rows)}</table>" if rows else "<p>None.</p>"


def _figure(entry: Entry, folder: Path) -> str:
    row = entry.row
    with Image.open(folder / row.file_name) as image:
        small = image.convert("RGB")
    factor = SIDE / max(small.size)
    interpolation = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    small = small.resize([max(1, round(side * factor)) for side in small.size], interpolation)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    flags = "".join(f"<em>{_safe(problem.name)}</em> " for problem in entry.problems)
    notes = "".join(f"<i>{_safe(note)}</i> " for note in row.notes)
    size = f"{row.source_size[0]}x{row.source_size[1]}" + f", now {row.size[0]}x{row.size[1]}"
    machine = f" ({entry.caption.source})" if entry.caption and entry.caption.source in MACHINES else ""
    return (
        f'<figure class="{"used" if entry.used else "out"}"><img alt="" src="data:image/png;base64,{data}">'
        f"<figcaption>{_safe(entry.trained) or '<em>no caption</em>'}{machine}<br><small>{_safe(row.source)}, {size} "
        f"{notes}</small>{flags}</figcaption></figure>"
    )


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{style}: census</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse }} td {{ border-top: 1px solid #ddd; padding: .3rem .8rem; vertical-align: top }}
svg text {{ font-size: 11px; text-anchor: middle }} svg {{ max-width: 100% }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: .8rem }}
figure {{ margin: 0; padding: .5rem; border: 1px solid #ddd; border-radius: 4px; overflow-wrap: anywhere }}
figure.out {{ opacity: .5; border-style: dashed }} figcaption {{ font-size: 12px }} small {{ color: #666 }}
em {{ background: #c0392b; color: white; padding: 0 .3rem; border-radius: 3px; font-style: normal; font-size: 11px }}
</style><h1>{style}</h1>"""
