"""The curves of a training, as figures that a page draws without any script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stylelora.desk import run_words as words
from stylelora.desk.run_view import Point, RunView
from stylelora.records import Estimate
from stylelora.runs.html import render

#: Size of a figure, and its margins, in units of which a narrow screen has one per pixel.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 210, 44, 12, 22, 36


@dataclass(frozen=True)
class Line:
    """A curve: its name, its class of style, its path, the outline of its interval, and its place at what is shown."""

    name: str
    style: str
    path: str
    band: str
    dots: list[tuple[float, float]]
    shown: tuple[float, float] | None


@dataclass(frozen=True)
class Figure:
    """A figure: title, meaning, what it shows in words, curves, and ticks, each with its place and its text."""

    title: str
    meaning: str
    words: str
    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    kept: float | None


Curve = tuple[str, str, Callable[[Point], Estimate | float | None]]


def curves(view: RunView, shown: int) -> str:
    """Return figures of skill, CLIP score and loss with intervals, as HTML.

    Args:
        view: the training.
        shown: place of the validation that is marked.
    """
    skill = _figure(view, shown, "Skill", words.SKILL, [("LoRA", "own", lambda one: one.skill)], zero="the base")
    clip = _figure(
        view, shown, "CLIP score", words.CLIP,
        [
            ("LoRA", "own", lambda one: one.clip_score),
            ("base", "base", lambda one: one.base_score),
            ("real pictures of the style", "real", lambda one: one.real_score),
        ],
    )  # fmt: skip
    loss = _figure(
        view, shown, "Loss", words.LOSS,
        [
            ("held out", "own", lambda one: one.loss),
            ("held out, base", "base", lambda one: one.base_loss),
            ("training", "real", lambda one: one.train_loss),
        ],
    )  # fmt: skip
    return render(
        "curves.html",
        figures=[one for one in (skill, clip, loss) if one],
        size=(WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM),
        axis="epoch" if view.by_epochs else "step",
    )


def table(view: RunView) -> str:
    """Return all numbers of a training as a table, as HTML."""
    return render(
        "numbers.html",
        heading=["epoch", "step", "skill", "CLIP score", "base", "share", "loss", "training loss"],
        rows=[(_row(one), i == view.kept) for i, one in enumerate(view.points)],
    )


def _row(one: Point) -> list[str]:
    scores = [words.with_interval(one.clip_score), words.number(one.base_score and one.base_score.value)]
    measured = [words.with_interval(one.skill), *scores, words.share(one.content)]
    return [str(one.epoch + 1), str(one.step), *measured, words.number(one.loss), words.number(one.train_loss)]


def _figure(
    view: RunView, shown: int, title: str, meaning: str, wanted: Sequence[Curve], zero: str = ""
) -> Figure | None:
    """Return a figure of what was measured of these curves; None: nothing was."""
    steps = [one.step for one in view.points]
    measured = {name: [_estimate(value(one)) for one in view.points] for name, _, value in wanted}
    measured = {name: row for name, row in measured.items() if any(row)}
    if not measured:
        return None
    ends = [end for row in measured.values() for one in row if one for end in (one.value, one.ci_low, one.ci_high)]
    ends = [end for end in ends if math.isfinite(end)] + [0.0] * bool(zero)
    up = ticks(min(ends), max(ends))
    low, high = min(*ends, *up), max(*ends, *up)
    room = max(steps) - min(steps)

    def x(step: float) -> float:
        return round(LEFT + 10 + ((step - min(steps)) / room if room else 0.5) * (WIDTH - LEFT - RIGHT - 20), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for name, style, _ in wanted:
        if name in measured:
            found = [(x(step), one) for step, one in zip(steps, measured[name], strict=True) if one]
            dots = [(place, y(one.value)) for place, one in found]
            sure = [(place, one) for place, one in found if math.isfinite(one.ci_low + one.ci_high)]
            outline = [(place, y(one.ci_high)) for place, one in sure]
            outline += [(place, y(one.ci_low)) for place, one in reversed(sure)]
            mark = measured[name][shown]
            lines.append(
                Line(name, style, _path(dots), _path(outline), dots, mark and (x(steps[shown]), y(mark.value)))
            )
    texts = [str(one.epoch + 1) for one in view.points] if view.by_epochs else list(map(str, steps))
    every = math.ceil(len(steps) / 8)
    return Figure(
        title=title,
        meaning=meaning,
        words=_said(view, measured),
        lines=lines,
        across=[(x(step), text) for step, text in list(zip(steps, texts, strict=True))[::-every][::-1]],
        up=[(y(one), _text(one, up) if one or not zero else "0") for one in up],
        kept=None if view.kept is None else x(steps[view.kept]),
    )


def _said(view: RunView, measured: dict[str, list[Estimate | None]]) -> str:
    """Return the last numbers of a figure, and those of the kept adapter, in words."""
    places = {"last": len(view.points) - 1} | ({} if view.kept is None else {"kept": view.kept})
    parts = [
        f"{which}, {words.place(view, place)}: "
        + ", ".join(f"{name} {words.with_interval(row[place])}" for name, row in measured.items() if row[place])
        for which, place in places.items()
    ]
    return "; ".join(parts)


def _estimate(value: Estimate | float | None) -> Estimate | None:
    return Estimate(value, math.nan, math.nan, 0) if isinstance(value, float) else value


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x} {y}" for x, y in places) if len(places) > 1 else ""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers, at most so many, that span an interval."""
    room = (high - low) or abs(high) or 1.0
    for power in range(math.floor(math.log10(room / most)), 99):
        for digit in (1, 2, 5):
            step = digit * 10.0**power
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first < most:
                return [round(i * step, 12) for i in range(first, last + 1)]
    return [low, high]


def _text(value: float, all_of_them: Sequence[float]) -> str:
    """Return a tick's text, with as many decimals as its neighbours need."""
    room = abs(all_of_them[-1] - all_of_them[0]) / max(1, len(all_of_them) - 1)
    return f"{value:.{max(0, -math.floor(math.log10(room or 1) + 1e-9))}f}"
