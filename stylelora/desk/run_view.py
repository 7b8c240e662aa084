"""A training as its files show it, finished or under way."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stylelora.desk.find_runs import STARTED, inside, is_training, run_of
from stylelora.desk.run_logs import by_point, logged, scores_of
from stylelora.records import Estimate, InputError, Metric, find
from stylelora.runs.kept import content_of
from stylelora.texts import read_object, read_yaml

POINT = re.compile(r"epoch=(\d+)-step=(\d+)")
#: What `result.json` says -> the state of a run that is not going on.
STATES = {"success": "finished", "cancelled": "stopped", "failed": "failed"}


@dataclass(frozen=True)
class Point:
    """What one validation measured, and left behind.

    Attributes:
        epoch: index from 0.
        step: finished optimiser steps.
        skill: on held-out pictures, with its interval.
        clip_score: of the samples, with its interval over prompts.
        base_score: the same of the base's samples.
        real_score: CLIP score of the style's own held-out pictures.
        loss, base_loss: mean loss on held-out pictures, with the adapter and of the base.
        train_loss: mean of the training losses that were logged since the validation before.
        sheet: its sheet of samples; None: none was drawn.
        adapter: its adapter, as a file of its own; None: none was saved.
    """

    epoch: int
    step: int
    skill: Estimate | None = None
    clip_score: Estimate | None = None
    base_score: Estimate | None = None
    real_score: float | None = None
    loss: float | None = None
    base_loss: float | None = None
    train_loss: float | None = None
    sheet: Path | None = None
    adapter: Path | None = None

    @property
    def content(self) -> float | None:
        """Return how well samples show what prompts say, as of `stylelora.runs.kept.content_of`."""
        scores = (one and one.value for one in (self.clip_score, self.base_score))
        return content_of(*scores, self.real_score)


@dataclass(frozen=True)
class RunView:
    """A training.

    Attributes:
        name: path below the folder of runs.
        folder: its folder.
        state: training, finished, stopped, failed, or killed (it ended without saying so).
        reason: what stopped it, or what to know about the kept adapter; "" if nothing.
        points: its validations, in order.
        kept: place in `points` of the kept adapter; None: it is not known, or there is none yet.
        epochs: epochs that it is to have; None: steps or time end it.
        adapter: file of the kept adapter; None: there is none.
        last: file of the last adapter.
        notes: header of the kept adapter's file: trigger, base and others.
        rule: how the adapter is kept, and the share of the CLIP score that `balanced` asks for.
    """

    name: str
    folder: Path
    state: str
    reason: str
    points: tuple[Point, ...]
    kept: int | None
    epochs: int | None
    adapter: Path | None
    last: Path | None
    notes: dict[str, str]
    rule: tuple[str, float]

    @property
    def by_epochs(self) -> bool:
        """Return whether each epoch had one validation, so that these can be called epochs."""
        return [one.epoch for one in self.points] == list(range(len(self.points)))


def traces(folder: Path) -> tuple:
    """Return what changes whenever a run writes something: sizes and times of its files, and whether it is going on."""
    found = []
    for pattern in ("*", "samples/*.png", "csv/metrics.csv"):
        for file in folder.glob(pattern):
            try:
                found.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
            except OSError:  # gone meanwhile
                continue
    return *sorted(found), is_training(folder)


def read_run(runs: Path, name: str) -> RunView:
    """Read a training.

    Whatever is missing or only half written is left out; nothing is changed.

    Args:
        runs: folder of runs; no file outside is taken.
        name: path of the training from there.

    Raises:
        InputError: if it is no training below `runs`.
    """
    folder = run_of(runs, name)
    going_on, result = is_training(folder), _mapping(folder / "result.json", read_object)
    config = _mapping(folder / "config.yaml", read_yaml) or result.get("config") or {}
    trainer, model = _part(config, "trainer"), _part(_part(config, "model"), "init_args")
    files = _adapters(runs, folder, Path(str(trainer.get("default_root_dir", ""))).name)
    notes = _notes(files.get(""))
    points = _points(runs, folder, files)
    kept = _number(notes.get("ss_steps")) if notes else result.get("step")
    place = next((i for i, one in enumerate(points) if one.step == kept), None)
    if place is not None and points[place].skill is None:  # a logger that leaves no file
        points[place] = replace(points[place], skill=_skill(result))
    epochs, share = trainer.get("max_epochs"), model.get("keep_share")
    return RunView(
        name=name,
        folder=folder,
        state="training" if going_on else STATES.get(str(result.get("status")), "killed"),
        reason=str((not going_on and result.get("error")) or result.get("warning") or ""),
        points=tuple(points),
        kept=place,
        epochs=epochs if isinstance(epochs, int) and epochs > 0 else None,
        adapter=files.get(""),
        last=files.get("-last"),
        notes=notes,
        rule=(str(model.get("keep", "balanced")), float(share) if isinstance(share, int | float) else 0.0),
    )


def _points(runs: Path, folder: Path, files: dict[str, Path]) -> list[Point]:
    """Return the validations that anything tells of."""
    scores = scores_of(folder / STARTED)
    sheets = {_point(file.stem): file for file in folder.glob("samples/epoch=*.png") if inside(runs, file)}
    known = {*scores, *filter(None, sheets), *filter(None, map(_point, files))}
    rows, trained = by_point(logged(folder), known)
    saved = {_point(which): file for which, file in files.items()}
    found = []
    for at in sorted({*scores, *sheets, *rows} - {None}, key=lambda one: (one[1], one[0])):
        row = rows.get(at, {})
        own, base = scores.get(at, (None, None))
        losses = row.get("val/loss"), row.get("val/base_loss"), trained.get(at)
        measured = _skill_of(row), own, base, row.get("val/clip_score_real"), *losses
        found.append(Point(*at, *measured, sheets.get(at), saved.get(at)))
    return found


def _adapters(runs: Path, folder: Path, former: str) -> dict[str, Path]:
    """Return the adapters by what follows the name: "", "-last", or a point; a moved folder has its former name."""
    for name in (folder.resolve().name, former):
        own = re.compile(rf"{re.escape(name)}(|-last|-epoch=\d+-step=\d+)\.safetensors")
        found = {own.fullmatch(file.name): file for file in folder.glob("*.safetensors") if inside(runs, file)}
        if files := {match.group(1): file for match, file in found.items() if match}:
            return files
    return {}


def _notes(file: Path | None) -> dict[str, str]:
    """Return the header of an adapter's file; {} if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            return dict(opened.metadata() or {})
    except (OSError, TypeError, SafetensorError):
        return {}


def _mapping(file: Path, read: Any) -> dict[str, Any]:
    """Return what a JSON or YAML file holds; {} if there is none, or half of one."""
    try:
        found = read(file)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _part(config: Any, name: str) -> dict[str, Any]:
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def _skill(result: dict) -> Metric | None:
    try:
        return find(map(Metric.of_record, result["metrics"]), "skill")
    except (KeyError, TypeError):
        return None


def _point(name: str) -> tuple[int, int] | None:
    found = POINT.search(name)
    return found and (int(found.group(1)), int(found.group(2)))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _skill_of(row: dict[str, float]) -> Estimate | None:
    """Return the skill that was logged; without finite ends, as of a single picture, with unbounded ones."""
    value, low, high = (row.get(f"val/skill{end}") for end in ("", "_ci_low", "_ci_high"))
    if value is None:
        return None
    return Estimate(value, -math.inf if low is None else low, math.inf if high is None else high, 0)
