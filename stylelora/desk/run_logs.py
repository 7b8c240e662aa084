"""The numbers that a training logged, read from the files of its loggers, also while it writes them."""

from __future__ import annotations

import csv
import functools
import json
import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from stylelora.metrics.statistics import mean_interval
from stylelora.records import Estimate

#: Longest record of TensorBoard that is read; numbers take some 30 bytes, sheets of samples megabytes.
LONGEST = 2**14
TAGS = (
    "val/skill", "val/skill_ci_low", "val/skill_ci_high", "val/loss", "val/base_loss", "val/clip_score_real",
    "train/loss",
)  # fmt: skip


def logged(folder: Path) -> dict[int, dict[str, float]]:
    """Return what was logged in a run's folder by TensorBoard or CSVLogger: logger's step -> tag -> finite number.

    Half of a row at the end, as a run leaves it that is writing just now, is left out. Other loggers leave nothing.

    Args:
        folder: folder of the run.

    Raises:
        OSError: if a file cannot be read.
    """
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for file in sorted(folder.glob("events.out.tfevents.*")):  # by time; a resumed run adds one
        for step, tag, value in _events(file):
            rows[step][tag] = value
    for file in sorted(folder.glob("csv/metrics.csv")):
        for step, tag, value in _table(file):
            rows[step].setdefault(tag, value)
    wanted = {step: {tag: one for tag, one in row.items() if math.isfinite(one)} for step, row in sorted(rows.items())}
    return {step: row for step, row in wanted.items() if row}


def by_point(logs: dict[int, dict[str, float]], known: set[tuple]) -> tuple[dict, dict]:
    """Return the logged validations by epoch and step, and the mean training loss until each.

    A logger's step is that of the batch, one less than the number of finished steps, or, after an epoch's end, equal.
    """
    rows, trained, losses = {}, {}, []
    for step, row in logs.items():
        losses += [row["train/loss"]] if "train/loss" in row else []
        if any(tag.startswith("val/") for tag in row):
            epoch = int(row.get("epoch", 0))
            at = next((one for one in ((epoch, step + 1), (epoch, step)) if one in known), (epoch, step + 1))
            rows[at] = row
            if losses:
                trained[at], losses = sum(losses) / len(losses), []
    return rows, trained


def scores_of(file: Path) -> dict[tuple[int, int], tuple[Estimate, Estimate]]:
    """Return the CLIP score of the samples, and of the base's, by epoch and step."""
    rows: dict[tuple[int, int], dict] = {}
    for line in _text(file).split("\n"):
        try:
            one = json.loads(line)
            at, scores = (int(one["epoch"]), int(one["step"])), (float(one["score"]), float(one["base_score"]))
            if all(map(math.isfinite, scores)):
                rows.setdefault(at, {})[int(one["index"])] = str(one["prompt"]), *scores
        except (KeyError, TypeError, ValueError):  # half of a line
            continue
    columns = {at: tuple(zip(*row.values(), strict=True)) for at, row in rows.items()}
    return {at: (_mean(own, prompts), _mean(base, prompts)) for at, (prompts, own, base) in columns.items()}


@functools.lru_cache(maxsize=4096)
def _mean(values: tuple[float, ...], prompts: tuple[str, ...]) -> Estimate:
    """Return the mean over prompts; those of the base are the same in each epoch."""
    return mean_interval(values, groups=prompts)


def _events(file: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of each number in a file of TensorBoard's.

    Its own reader computes the checksum of each sheet in plain Python, a second for each two megabytes.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    size = file.stat().st_size
    with file.open("rb") as records:
        while len(head := records.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > size:  # it was damaged, or is being written
                return
            if length > LONGEST:
                records.seek(length + 4, 1)
                continue
            content = records.read(length + 4)
            if len(content) < length + 4:
                return
            try:
                event = Event.FromString(content[:length])
            except DecodeError:  # a file that was damaged
                return
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value" and value.tag in (*TAGS, "epoch"):
                    yield event.step, value.tag, value.simple_value


def _table(file: Path) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of each number in a CSVLogger's file."""
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for row in csv.DictReader(lines):
            for tag in (*TAGS, "epoch"):
                try:
                    yield int(row["step"]), tag, float(row[tag])
                except (KeyError, TypeError, ValueError):  # not logged in this row, or half of a row
                    continue


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
