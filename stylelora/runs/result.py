"""`result.json`: the result of a run."""

from __future__ import annotations

import importlib.metadata
import json
import math
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylelora.files import write
from stylelora.records import Endpoint, Metric
from stylelora.runs.slurm import start_of_job

PACKAGES = ("torch", "lightning", "diffusers", "transformers", "peft")


def git_hash() -> str:
    """Return the git commit of the code, with `-dirty` if modified; `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def peak_memory() -> dict[str, int]:
    """Return this process's peak memory in bytes: `host`, and `cuda` if there is a GPU."""
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
    step: int | None = None,
    warning: str = "",
    dataset: str | None,
    metrics: Sequence[Metric],
    tests: Sequence[Endpoint] = (),
) -> Path:
    """Write `result.json` atomically.

    Args:
        folder: the run's folder; its `config.yaml`, if any, is included in the result.
        status: running, success, failed or cancelled; running is also what a run leaves that was killed.
        error: what stopped the run; None if nothing did.
        seconds: wall time.
        epoch: index from 0 of the epoch that the kept adapter and the metrics belong to; None if there is none.
        epochs: number of finished epochs.
        step: finished optimiser steps of the kept adapter.
        warning: what a person should know about the choice of the kept adapter; "" if all is well.
        dataset: hash of pictures and captions.
        metrics: measured values, in the format of `Metric.as_record`.
        tests: results of the tests declared in advance, in the format of `Endpoint.as_record`.

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
        "step": step,
        "epochs": epochs,
        "warning": warning,
        "metrics": [metric.as_record() for metric in metrics],
        "tests": [test.as_record() for test in tests],
        "dataset": dataset,
        "peak_memory_bytes": peak_memory(),
        "git": git_hash(),
        "versions": {"python": sys.version.split()[0]} | {p: importlib.metadata.version(p) for p in PACKAGES},
        "slurm": start_of_job(),
        "config": _finite(yaml.safe_load(config.read_text())) if config.is_file() else None,
    }
    path = folder / "result.json"
    write(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return path


def _finite(value: Any) -> Any:
    """Return settings with infinite numbers, such as Prodigy's growth_rate, as texts, since JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_result(folder: Path) -> dict[str, Any]:
    """Return what is in a run's `result.json`; {}: there is none."""
    file = folder / "result.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def read_metrics(folder: Path) -> list[Metric]:
    """Read the metrics from a run's `result.json`."""
    return [Metric.of_record(record) for record in json.loads((folder / "result.json").read_text())["metrics"]]


def read_tests(folder: Path) -> list[Endpoint]:
    """Read the test results from a run's `result.json`."""
    return [Endpoint.of_record(record) for record in json.loads((folder / "result.json").read_text())["tests"]]
