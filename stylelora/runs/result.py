"""`result.json`: the result of a run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stylelora.records import Endpoint, Metric

PACKAGES = ("torch", "lightning", "diffusers", "transformers", "peft")


def git_hash() -> str:
    """Return the commit of the code, `-dirty` if it was changed since, `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory() -> dict[str, int]:
    """Return the highest memory use of this process so far, in bytes: `host`, and `cuda` where there is one."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in kilobytes, except on macOS
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["cuda"] = torch.cuda.max_memory_allocated()
    return peak


def write_result(
    folder: Path,
    *,
    status: str,
    error: str | None,
    seconds: float,
    epoch: int | None,
    epochs: int,
    dataset: str | None,
    metrics: Sequence[Metric],
    tests: Sequence[Endpoint] = (),
) -> Path:
    """Write `result.json` completely or not at all.

    Args:
        folder: the run's folder; its `config.yaml`, where there is one, goes into the result.
        status: success, failed or cancelled.
        error: what stopped the run, None if nothing did.
        seconds: wall time.
        epoch: the epoch, counted from 0, whose adapter was kept and whose metrics these are; None without one.
        epochs: number of finished epochs.
        dataset: hash of pictures and captions.
        metrics: what was measured; see `Metric.as_record` for their form.
        tests: of what was declared beforehand; see `Endpoint.as_record`.

    Returns:
        path of the file.
    """
    import yaml

    config = folder / "config.yaml"
    record = {
        "status": status,
        "error": error,
        "seconds": round(seconds, 2),
        "epoch": epoch,
        "epochs": epochs,
        "metrics": [metric.as_record() for metric in metrics],
        "tests": [test.as_record() for test in tests],
        "dataset": dataset,
        "peak_memory_bytes": peak_memory(),
        "git": git_hash(),
        "versions": {"python": sys.version.split()[0]} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "config": yaml.safe_load(config.read_text()) if config.is_file() else None,
    }
    path = folder / "result.json"
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
    return path


def read_metrics(folder: Path) -> list[Metric]:
    """Return the metrics of a run's `result.json`."""
    return [Metric.of_record(record) for record in json.loads((folder / "result.json").read_text())["metrics"]]


def read_tests(folder: Path) -> list[Endpoint]:
    """Return the tests of a run's `result.json`."""
    return [Endpoint.of_record(record) for record in json.loads((folder / "result.json").read_text())["tests"]]
