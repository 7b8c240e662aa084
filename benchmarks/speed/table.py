"""A benchmark's numbers as Markdown: `python -m benchmarks.speed.table FILE.json ...`."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from stylelora.evaluation.summary import markdown

GIB = 2**30
#: Name of a loop -> what it is called in tables.
NAMES = {"ours": "this program", "diffusers": "as diffusers' script", "kohya": "as kohya's, cached latents"}
PHASES = ("data", "encoding", "forward", "backward", "optimiser", "logging")
RENDERERS: dict[str, Callable[[Any, dict], str]] = {}


def renders(function: Callable[[Any, dict], str]) -> Callable[[Any, dict], str]:
    """Register what renders the section of the same name."""
    RENDERERS[function.__name__] = function
    return function


def rows(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    return markdown([*map(str, head)], [[*map(str, line)] for line in body])


def span(values: Sequence[float], unit: float = 1.0, digits: int = 1) -> str:
    """Return a median and, in brackets, least and greatest."""
    middle, low, high = (f"{unit * one:.{digits}f}" for one in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def over(values: Sequence[float], others: Sequence[float]) -> str:
    """Return how many times as fast others are, block by block."""
    return span([a / b for a, b in zip(values, others, strict=True)], digits=2)


def settings_of(record: dict) -> str:
    """Return settings in words."""
    again = ", gradient checkpointing" if record["checkpointing"] else ""
    place = f"{record['batch']} pictures of {record['resolution']} px, rank {record['rank']}"
    return f"{record['precision']}, {place}{again}"


def ceiling(result: dict, precision: str) -> float | None:
    """Return the most operations per second that were measured in a precision."""
    found = result["sections"].get("ceilings", {}).get(precision)
    return max(found.values()) if found else None


@renders
def ceilings(found: dict, result: dict) -> str:
    """Operations per second of a matrix product and of a convolution."""
    del result
    head = ["TFLOP/s", *next(iter(found.values()))]
    return rows(head, [[kind, *(f"{one / 1e12:.2f}" for one in of.values())] for kind, of in found.items()])


@renders
def operations(found: dict, result: dict) -> str:
    """Operations of a step per picture."""
    del result
    return "Counted per picture, in GFLOP: " + ", ".join(f"{name} {one / 1e9:.1f}" for name, one in found.items())


@renders
def training(found: list[dict], result: dict) -> str:
    """A table per setting: beside what public scripts do, and where the time goes."""
    tables = []
    counted = result["sections"].get("operations", {}).get("step")
    for one in found:
        most, batch = ceiling(result, one["settings"]["precision"]), one["settings"]["batch"]
        body = []
        for name in NAMES:
            taken, phases = one["seconds"][name], one["phases"][name]
            middle = statistics.median(taken)
            share = f"{counted * batch / middle / most:.0%}" if counted and most else ""
            times = [f"{1000 * phases[phase]:.1f}" if phase in phases else "" for phase in PHASES]
            ratio = "" if name == "ours" else over(taken, one["seconds"]["ours"])
            body.append([NAMES[name], span(taken, 1000), f"{batch / middle:.2f}", ratio, share, *times])
        head = [
            "",
            "ms per step",
            "pictures/s",
            "ours is faster by",
            "of the ceiling",
            *(f"{one}, ms" for one in PHASES),
        ]
        wanted = [one["settings"]["precision"] == "tf32"] * 2
        unequal = "" if one["tf32"] in ([], wanted) else f" (TF32 in ours: {one['tf32']}, so not equal)"
        tables.append(f"**{settings_of(one['settings'])}**{unequal}\n\n{rows(head, body)}")
    return "\n\n".join(
        [*tables, "Phases are in ms per step, with the device waited for after each, so they add up to more."]
    )


@renders
def memory(found: list[dict], result: dict) -> str:
    """The most memory of each training, and what was counted without one."""
    counted = {json.dumps(one["settings"]): one["bytes"] for one in result["sections"].get("counted", [])}
    kinds = list(next(iter(found[0]["most"].values())))
    head = ["GiB", *(f"{NAMES[name]}: {kind}" for name in NAMES for kind in kinds), "ours, counted"]
    body = []
    for one in found:
        wanted = counted.get(json.dumps(one["settings"] | {"device": "any"}))
        most = [f"{one['most'][name][kind] / GIB:.2f}" for name in NAMES for kind in kinds]
        body.append([settings_of(one["settings"]), *most, f"{wanted / GIB:.2f}" if wanted else ""])
    return rows(head, body)


@renders
def counted(found: list[dict], result: dict) -> str:
    """What was counted without a GPU."""
    del result
    return rows(["counted", "GiB"], [[settings_of(one["settings"]), f"{one['bytes'] / GIB:.2f}"] for one in found])


@renders
def launches(found: list[dict], result: dict) -> str:
    """How many operations a step gives to the device."""
    del result
    body = []
    for one in found:
        ours, precision = one["operations"]["ours"]["all"], one["settings"]["precision"]
        for name, of in one["operations"].items():
            body.append([f"{precision}, {NAMES[name]}", of["all"], of["casts"], f"{of['all'] / ours:.2f}"])
    return rows(["operations of a step of one picture", "all", "casts among them", "of ours"], body)


@renders
def gains(found: dict, result: dict) -> str:
    """What each gain is worth: one after another, then each alone."""
    del result
    taken, towards = found["seconds"], found["towards"]
    first, last = taken[towards[0]], taken[towards[-1]]
    one_by_one = [
        [name, span(taken[name], 1000), over(taken[before], taken[name]), over(first, taken[name])]
        for before, name in zip([towards[0], *towards], towards, strict=False)
    ]
    others = {NAMES.get(name, name): some for name, some in taken.items() if name not in towards}
    each = [[name, span(some, 1000), over(last, some)] for name, some in others.items()]
    tables = [
        rows(["one after another", "ms per step", "faster than the row above", "than the first"], one_by_one),
        rows(["each alone", "ms per step", f'faster than "{towards[-1]}"'], each),
    ]
    return f"**{settings_of(found['settings'])}**\n\n" + "\n\n".join(tables)


@renders
def compiled(found: dict, result: dict) -> str:
    """Blocks compiled by torch.compile."""
    del result
    eager = found["seconds"]["eager"]
    body = [[name, span(some, 1000), over(eager, some)] for name, some in found["seconds"].items()]
    return f"{rows(['', 'ms per step', 'faster'], body)}\n\nThe first compiled step takes {found['first step']:.0f} s."


@renders
def sampling(found: dict, result: dict) -> str:
    """Seconds of a batch of sample pictures, by how adapters are used."""
    del result
    taken = found["seconds"]
    body = [[name, span(some, 1, 3), over(some, taken["the base"])] for name, some in taken.items()]
    said = f"{found['pictures']} pictures of {found['resolution']} px in {found['steps']} steps, {found['precision']}"
    return f"{said}:\n\n{rows(['', 's', 'of the base alone'], body)}"


@renders
def start(found: dict, result: dict) -> str:
    """Seconds until something is seen."""
    del result
    return rows(["", "s"], [[name, span(some, 1, 2)] for name, some in found.items()])


@renders
def encoding(found: dict, result: dict) -> str:
    """Pictures per second before training."""
    del result
    return rows(["", "pictures/s"], [[name, f"{one:.1f}"] for name, one in found.items()])


@renders
def run(found: dict, result: dict) -> str:
    """What a whole run is made of."""
    del result
    whole = found["whole"]
    return rows(["", "s", "share"], [[name, f"{one:.1f}", f"{one / whole:.0%}"] for name, one in found.items()])


@renders
def growth(found: dict, result: dict) -> str:
    """How time grows with the rank and with the number of adapters."""
    del result
    tables = []
    for what, taken in found.items():
        least = next(iter(taken.values()))
        body = [[name, span(some, 1000), over(some, least)] for name, some in taken.items()]
        tables.append(rows([what, "ms", "of the first"], body))
    return "\n\n".join(tables)


@renders
def pictures(found: list[dict], result: dict) -> str:
    """How time and memory grow with the number of pictures."""
    del result
    head = ["pictures", "first start, s", "later start, s", "ms per step", "memory, MB", "peak, MB"]
    names = ("count", "first start", "start", "step", "memory", "peak")
    return rows(head, [[f"{one[name]:.0f}" for name in names] for one in found])


@renders
def desk(found: dict, result: dict) -> str:
    """From a move of a slider to its picture."""
    del result
    taken = found["seconds"]
    middle, late = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    return rows(["moves", "median, s", "95 % within, s"], [[len(taken), f"{middle:.2f}", f"{late:.2f}"]])


def section(name: str, result: dict) -> str:
    """Return a section with its heading."""
    return f"### {name}\n\n{RENDERERS[name](result['sections'][name], result)}"


def whole(result: dict) -> str:
    """Return all sections of a benchmark."""
    made = ", ".join(f"{name} {value}" for name, value in result["machine"].items() if name != "device")
    parts = [f"## {result['base']} on {result['machine']['device']}, {result['date']}\n\n{made}"]
    parts += [section(name, result) for name in RENDERERS if name in result["sections"]]
    parts += [f"### {name}\n\nfailed: {said.strip().splitlines()[-1]}" for name, said in result["errors"].items()]
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables of files."""
    for file in sys.argv[1:]:
        print(whole(json.loads(Path(file).read_text())) + "\n")


if __name__ == "__main__":
    main()
