"""Tables and pictures of finished studies, with those of the study that they repeat."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stylelora.data.images import labelled_grid, save_png
from stylelora.evaluation.finished import read_finished
from stylelora.evaluation.summary import cell, markdown, tests_said
from stylelora.metrics.comparison import equivalence
from stylelora.metrics.statistics import ratio_interval
from stylelora.records import InputError, find
from stylelora.runs.pictures import BASE, load_png, read_lines
from stylelora.runs.result import read_metrics, read_tests

MARGIN = 0.1  # equivalence margin of attainment: smaller differences do not matter
SHOWN = 8  # prompts shown in the gallery

ORIGINAL_RESOLUTION = """The original study, on Stable Diffusion 1.5, four data sets that differ in all:

| data set | source size | images | best training loss | verdict |
|---|---|---|---|---|
| cartoon | about 2000x2000 | 61 | 0.1194 | excellent |
| watercolor | 416x416 | 100 | 0.0871 | good |
| anime | 61-94 px | 100 | 0.0871 | fair |
| pixelart | 16x16 | 100 | 0.0221 | failed |
"""
ORIGINAL_STYLES = """The original study, on Stable Diffusion 1.5 (CLIP ViT-B/32, no intervals, other prompts):

| condition | CLIP score | in its later version | CLIP similarity to training pictures |
|---|---|---|---|
| base | 0.310 | 0.3097 | - |
| watercolor | 0.299 | 0.3187 | 0.7677 |
| cartoon | 0.286 | 0.3127 | 0.7861 |
| anime | - | 0.3200 | 0.6743 |
| pixelart | - | 0.3078 | 0.7984 |
| watercolor + cartoon | 0.292 | 0.3130 | 0.7858 |
"""


def results(folder: Path) -> str:
    """Return the main table of a finished test, in Markdown."""
    metrics = read_metrics(folder)
    table = {(metric.condition, metric.quantity): metric for metric in metrics}
    conditions = dict.fromkeys(metric.condition for metric in metrics if metric.quantity.measure == "clip_score")
    columns = [
        quantity
        for measure in ("clip_score", "style_gain", "attainment", "both_score", "coin_flip", "drift", "memorisation")
        for quantity in dict.fromkeys(metric.quantity for metric in metrics)
        if quantity.measure == measure
    ]
    rows = [[one, *(cell(table.get((one, column))) for column in columns)] for one in conditions]
    return "\n".join([markdown(["condition", *map(str, columns)], rows), *tests_said(metrics, read_tests(folder))])


def resolution_table(folders: list[Path]) -> str:
    """Return the resolution table in Markdown; attainment 1 is the run on full-resolution pictures.

    Args:
        folders: folders of finished runs with their tests, `mini_<kernel>_<source size>`.
    """
    tests = {folder: read_finished(folder / "test") for folder in folders}
    heading = ["from", "enlarged by", "training loss", "skill", "CLIP score", "style", "attainment"]
    rows = []
    for folder, test in tests.items():
        values, base = test.condition(None)[1], test.conditions[BASE]
        interpolation, size = re.fullmatch(r"mini_([a-z]+)_(\d+)", folder.name).groups()
        _, whole = next(
            test.condition(None) for other, test in tests.items() if other.name == f"mini_{interpolation}_64"
        )
        style, content = (next(one for one in values if one.measure == name) for name in ("style", "clip_score"))
        own = values[style]
        if own.pictures != whole[style].pictures:
            raise InputError(f"{test.folder} has other prompts or seeds than the others; remove it and run again")
        span = whole[style].values - base[style].values
        attained = ratio_interval(own.values - base[style].values, span, own.units)
        same = "-"
        if folder.name != f"mini_{interpolation}_64":
            margin = MARGIN * abs(span.mean())
            same = f"{equivalence(own.values, whole[style].values, own.units, margin):.3f}"
        skill = find(read_metrics(folder), "skill")
        cells = [f"{int(size)} px", interpolation, f"{training_loss(folder):.4f}", cell(skill)]
        cells += [cell(values[name].mean) for name in (content, style)]
        rows.append([*cells, cell(attained), same])
    return markdown([*heading, "as good as whole (p)"], rows)


def training_loss(folder: Path) -> float:
    """Return the mean training loss over the last tenth of a run, from its TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def gallery(folders: list[Path]) -> Path:
    """Write a gallery of some prompts by all runs of the resolution study side by side, the base first.

    Args:
        folders: folders of finished runs with their tests, `mini_<kernel>_<source size>`.

    Returns:
        the file, `gallery.png`, next to the runs' folders.
    """
    columns: dict[str, dict[str, Path]] = {}
    for folder in folders:
        _, interpolation, size = folder.name.split("_")
        for row in read_lines(folder / "test" / "pictures.jsonl"):
            if row["trigger"]:
                name = "base" if row["condition"] == BASE else f"{int(size)} px {interpolation}"
                columns.setdefault(name, {}).setdefault(row["content"], folder / "test" / row["file_name"])
    prompts = list(columns["base"])[:SHOWN]
    rows = [(prompt, [load_png(files[prompt]) for files in columns.values()]) for prompt in prompts]
    path = folders[0].parent / "gallery.png"
    save_png(labelled_grid(rows, list(columns)), path)
    return path
