"""What a run left in its folder, without what differs from one run to another that came to the same."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = {"seconds", "peak_memory_bytes", "git", "config"}


def left(folder: Path) -> dict[str, object]:
    """Return the contents of all files of a run, by name."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".ckpt":
            found[name] = _plain(torch.load(file, weights_only=True))
        elif file.name == "metrics.csv":
            with file.open(newline="") as lines:
                found[name] = [tuple(sorted(row.items())) for row in csv.DictReader(lines)]
        elif file.name == "result.json":
            found[name] = {key: value for key, value in json.loads(file.read_text()).items() if key not in TIMES}
        elif "tfevents" not in name and file.name not in ("config.yaml", "hparams.yaml"):
            found[name] = file.read_bytes()
    return found | {"tensorboard": _board(folder)}


def _board(folder: Path) -> list[tuple]:
    """Return the curves and pictures of TensorBoard."""
    board = EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()
    curves = [(tag, one.step, one.value) for tag in board.Tags()["scalars"] for one in board.Scalars(tag)]
    sheets = [(tag, one.step, one.encoded_image_string) for tag in board.Tags()["images"] for one in board.Images(tag)]
    return sorted(curves) + sorted(sheets)


def _plain(value: object, key: str = "") -> object:
    """Return a checkpoint as plain values to compare, without times, log lengths, and its run."""
    if isinstance(value, dict):
        kept = value.items() if "dirpath" not in value else [("score", value["best_model_score"])]
        return {name: _plain(one, name) for name, one in kept if name not in ("seconds", "logs", "zero_grad", "run")}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), hashlib.sha256(value.numpy().tobytes()).hexdigest()
    return value


def differences(first: object, second: object, name: str = "") -> list[str]:
    """Return the names of all that differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        missing = [f"{name}/{key} is only in one" for key in first.keys() ^ second.keys()]
        both = (differences(first[key], second[key], f"{name}/{key}") for key in first.keys() & second.keys())
        return missing + [one for some in both for one in some]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second) < 10**5:
        pairs = enumerate(zip(first, second, strict=True))
        return [one for i, (a, b) in pairs for one in differences(a, b, f"{name}[{i}]")]
    return [] if first == second else [f"{name}: {str(first)[:200]} is not {str(second)[:200]}"]
