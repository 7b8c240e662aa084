"""The figures of a report, by matplotlib: each as SVG and PNG, and as SVG for a page with a light or a dark ground."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stylelora.files import write
from stylelora.metrics.skill import SKILL_AT_TIMESTEP
from stylelora.records import InputError
from stylelora.studies.plan import Study, named, short
from stylelora.studies.report_measures import spoken
from stylelora.studies.report_outcome import FROM_BASE, Outcome, is_ordered, means_by_seed
from stylelora.studies.report_read import Arm, Reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"  # of text and axes; a page shows it in its own colour
#: Colours that differ for colour-blind readers, too, on light and on dark (after Okabe and Ito 2008).
COLOURS = ["#1f83c4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
WIDTH = 5.2  # inches; small, so that letters are large enough on a telephone
_STYLE = {
    **{name: INK for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    **{"font.size": 11, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "study"},
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
}


def check_matplotlib() -> None:
    """Refuse to go on without matplotlib, which draws the figures.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            "the figures of a report need matplotlib, which is not installed; type `pip install -e '.[report]'`"
        ) from error


def response(study: Study, found: Reading, outcome: Outcome) -> Figure:
    """Draw the primary metric of each arm: its mean with interval, and each training seed as a dot."""
    factor, labels = horizontal(study, found)
    groups: dict[str, list[Arm]] = {}
    for arm in found.arms:
        if arm.get(outcome.primary):
            others = {name: label for name, label in arm.levels.items() if name != factor}
            groups.setdefault(named(others), []).append(arm)
    with _axes(3.4) as (figure, axes):
        if outcome.primary.measure in FROM_BASE:
            axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(" base", (1, 0), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=9)
        for i, (name, arms) in enumerate(groups.items()):
            shift = (i - (len(groups) - 1) / 2) * min(0.16, 0.6 / len(groups))
            arms = sorted(arms, key=lambda arm: labels.index(arm.levels[factor]))
            places = [labels.index(arm.levels[factor]) + shift for arm in arms]
            colour, line = COLOURS[i % len(COLOURS)], "-" if is_ordered(study, factor) else ""
            means = [arm.get(outcome.primary).mean for arm in arms]
            errors = [[one.value - one.ci_low for one in means], [one.ci_high - one.value for one in means]]
            axes.errorbar(
                places, [one.value for one in means], errors, color=colour, linestyle=line, linewidth=1.2,
                marker="_", markersize=10, markeredgewidth=2, capsize=3, label=name or None,
            )  # fmt: skip
            for place, arm in zip(places, arms, strict=True):
                seeds = means_by_seed(arm.get(outcome.primary))
                axes.plot(
                    [place + 0.06] * len(seeds), seeds, "o", color=colour, markersize=4, alpha=0.6, markeredgewidth=0
                )
        ticks = [short(factor, label) for label in labels]
        long = max(map(len, ticks)) * len(ticks) > 45
        axes.set_xticks(range(len(ticks)), ticks, rotation=30 if long else 0, ha="right" if long else "center")
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_xlabel(factor)
        axes.set_ylabel(spoken(outcome.primary))
        if len(groups) > 1:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=10)
    return figure


def forest(study: Study, outcome: Outcome) -> Figure:
    """Draw each difference with its interval, and the margin as a band."""
    rows = outcome.differences
    with _axes(0.9 + 0.44 * len(rows)) as (figure, axes):
        if study.margin:
            axes.axvspan(-study.margin, study.margin, color="#009e73", alpha=0.18, linewidth=0)
        for i, one in enumerate(rows):
            axes.vlines(0, -i - 0.22, -i + 0.14, color=INK, linewidth=0.8)  # not through the labels
            found, colour = one.test.difference, COLOURS[1] if one.differs else COLOURS[0]
            errors = [[found.value - found.ci_low], [found.ci_high - found.value]]
            this, first, both = one.names
            label = f"{this} minus {first}" + f" ({both})" * bool(both)
            axes.errorbar(found.value, -i, xerr=errors, fmt="o", color=colour, capsize=3, markersize=5)
            axes.annotate(label, (0, -i + 0.26), xycoords=("axes fraction", "data"), fontsize=10)
        axes.set_ylim(-len(rows) + 0.5, 0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"difference of {spoken(outcome.primary)}")
    return figure


def timesteps(found: Reading) -> Figure | None:
    """Draw the skill of each arm by timestep; None if no test measured it."""
    from matplotlib import colormaps

    rows = {
        arm.label: sorted(
            (quantity.at[0], one.mean)
            for quantity, one in arm.series.items()
            if quantity.measure == SKILL_AT_TIMESTEP.name and quantity.style in arm.styles[:1]
        )
        for arm in found.arms
    }
    rows = {label: row for label, row in rows.items() if row}
    if not rows:
        return None
    with _axes(3.2 + 0.1 * len(rows)) as (figure, axes):
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        for i, (label, row) in enumerate(rows.items()):
            colour = COLOURS[i] if len(rows) <= len(COLOURS) else colormaps["viridis"](0.3 + 0.6 * i / (len(rows) - 1))
            axes.plot(
                [at for at, _ in row], [one.value for _, one in row], "o-", color=colour, markersize=3, label=label
            )
        axes.set_xlabel("timestep (0: clean, 1000: noise)")
        axes.set_ylabel("skill")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=10)
    return figure


def horizontal(study: Study, found: Reading) -> tuple[str, list[str]]:
    """Return the factor along the horizontal axis, and its levels: the ordered one, or the one with most levels."""
    factor = study.trend or max(found.factors, key=lambda name: len(found.factors[name]))
    return factor, found.factors[factor]


def save(figure: Figure, path: Path) -> str:
    """Write a figure as SVG and PNG, and return its SVG for a page, in whose text colour its text and axes are.

    Args:
        figure: from a function above.
        path: without suffix.
    """
    texts = {}
    for suffix, options in (("svg", {"metadata": {"Date": None, "Creator": None}}), ("png", {"dpi": 150})):
        buffer = io.BytesIO()
        with _style():
            figure.savefig(buffer, format=suffix, bbox_inches="tight", **options)
        texts[suffix] = buffer.getvalue()
        write(path.with_suffix(f".{suffix}"), texts[suffix])
    svg = texts["svg"].decode()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    width = 1.2 * float(re.search(r' width="([\d.]+)pt"', svg).group(1))
    svg = re.sub(r' width="[^"]+"', f' style="max-width: {width:.0f}pt"', svg, count=1)
    svg = re.sub(r' height="[^"]+"', "", svg, count=1)
    svg = re.sub(r'<g id="patch_[12]">.*?</g>', "", svg, count=2, flags=re.DOTALL)  # the white ground
    return re.sub(r'( id="|url\(#|href="#)', rf"\1{path.name}-", svg)  # several figures on one page


@contextmanager
def _axes(height: float) -> Iterator[tuple[Figure, Axes]]:
    from matplotlib.figure import Figure

    with _style():
        figure = Figure((WIDTH, height))
        yield figure, figure.subplots()


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield
