"""Finished tests side by side, picture by picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylelora.experiments.evaluation_page import cell
from stylelora.metrics.comparison import equivalence, holm, paired_difference
from stylelora.metrics.statistics import mean_interval
from stylelora.records import InputError

#: Values of which less is better.
LOWER = ("drift", "pixel_drift", "collage")


def compare(
    runs: list[str], arms: list[str] | None = None, primary: str = "style", margin: float | None = None
) -> None:
    """Compare tests that made the same prompts and seeds: every run with the first.

    Args:
        runs: folders that `test` wrote.
        arms: name of one arm of each run; left out: the last one of each.
        primary: metric that was declared before looking, such as style or clip_score; its p-values are adjusted
            over the runs by Holm, those of all others are exploratory and adjusted as false discoveries. Not attainment
            of two adapters alone: each has its own scale, on which it is 1.
        margin: largest difference of the primary metric, in its own units, that does not matter; given, equivalence is
            tested, too.

    Raises:
        InputError: if runs or arms cannot be compared.
    """
    if len(runs) < 2 or (arms is not None and len(arms) != len(runs)):
        raise InputError("give at least two runs, and either no arms or one for each run")
    read = [read_values(Path(run), arm) for run, arm in zip(runs, arms or [None] * len(runs), strict=True)]
    name, (pictures, first) = read[0][0], read[0][1:]
    p_values: dict[str, dict[str, float]] = {"primary": {}, "exploratory": {}}
    lines = []
    for run, (other, theirs, values) in zip(runs[1:], read[1:], strict=True):
        if theirs != pictures:
            raise InputError(f"{run} and {runs[0]} have other prompts or seeds; test both with the same data")
        if not any(metric.split("[")[0] == primary for metric in first.keys() & values.keys()):
            raise InputError(f"no metric of both is called {primary}; choose from {', '.join(sorted(first))}")
        prompts = [content for content, _ in pictures]
        for metric in first.keys() & values.keys():
            kind = "primary" if metric.split("[")[0] == primary else "exploratory"
            test = paired_difference(
                values[metric], first[metric], prompts, higher_is_better=not metric.startswith(LOWER)
            )
            key = f"{run}, {other}: {metric}"
            p_values[kind][key] = test.p_value
            means = [cell(mean_interval(one[metric], prompts)) for one in (first, values)]
            lines.append((kind, key, [*means, cell(test.difference), f"{test.p_value:.4f}"]))
            if margin is not None and kind == "primary":
                p = equivalence(values[metric], first[metric], prompts, margin)
                print(f"{key}: equal to within {margin:g}? p = {p:.4f}")
    adjusted = holm(p_values["primary"]) if p_values["primary"] else {}
    adjusted |= false_discoveries(p_values["exploratory"])
    print(f"first: {runs[0]}, {name}; {len(pictures)} pictures of {len({c for c, _ in pictures})} prompts")
    print("| | run, arm: metric | first | this | difference | p | adjusted |\n" + "|---" * 7 + "|")
    for kind, key, cells in sorted(lines, key=lambda line: (line[0] != "primary", line[1])):
        print(f"| {kind} | {key} | {' | '.join(cells)} | {adjusted[key]:.4f} |")


def read_values(run: Path, arm: str | None) -> tuple[str, list[tuple[str, int]], dict[str, np.ndarray]]:
    """Return an arm's name, its pictures as (content, seed), and its values by metric.

    Args:
        run: folder that `test` wrote.
        arm: name; None: the last.

    Raises:
        InputError: if there is no such run or arm.
    """
    file = run / "values.jsonl"
    if not file.is_file():
        raise InputError(f"{run} has no values.jsonl; give folders that `python cli.py test` wrote")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(row["arm"] for row in rows))
    if arm is not None and arm not in names:
        raise InputError(f"{run} has no arm {arm!r}; it has {', '.join(names)}")
    own = [row for row in rows if row["arm"] == (arm or names[-1])]
    pictures = [(row["content"], row["seed"]) for row in own]
    return (
        arm or names[-1],
        pictures,
        {name: np.array([row["values"][name] for row in own]) for name in own[0]["values"]},
    )


def false_discoveries(p_values: dict[str, float]) -> dict[str, float]:
    """Return p-values adjusted to bound the share of false discoveries (Benjamini & Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    adjusted: Sequence[float] = false_discovery_control(list(p_values.values())) if p_values else []
    return dict(zip(p_values, map(float, adjusted), strict=True))
