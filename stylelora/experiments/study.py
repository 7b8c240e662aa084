"""Whole studies by one command: what is missing is run, and then the tables are printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from stylelora.experiments.result import run_folder
from stylelora.experiments.study_tables import (
    ORIGINAL_RESOLUTION,
    ORIGINAL_STYLES,
    gallery,
    resolution_table,
    results,
)
from stylelora.records import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
T = TypeVar("T")


def study(question: Literal["styles", "resolution"]) -> None:
    """Answer a question by its configured runs on the embedded base; what has a result already is not run again.

    Args:
        question: styles: the four adapters and two blends (`configs/evaluate/mini.yaml`); resolution: the same
            watercolours from 4 to 64 px, enlarged in two ways (`configs/ablations/resolution/mini_*.yaml`).

    Raises:
        InputError: if a run fails.
    """
    if question == "styles":
        side_by_side(fit, "train/mini/*.yaml")
        config = CONFIGS / "evaluate" / "mini.yaml"
        folder = run_folder(config, CONFIGS)
        run("test", config, folder, f"--trainer.devices={cores()}")
        print(ORIGINAL_STYLES, results(folder), f"\nlook at {folder / 'grid.png'}", sep="\n")
        return
    folders = side_by_side(fit_and_test, "ablations/resolution/mini_*.yaml")
    print(ORIGINAL_RESOLUTION, resolution_table(folders), f"\nlook at {gallery(folders)}", sep="\n")


def fit(config: Path) -> Path:
    """Train an adapter, with pictures after the last epoch only, which changes no bit; return the run's folder."""
    folder = run_folder(config, CONFIGS)
    run("fit", config, folder, f"--model.init_args.sample_every_n_epochs={10**9}")
    return folder


def fit_and_test(config: Path) -> Path:
    """Train an adapter of the resolution study and judge it on whole pictures; return the run's folder."""
    folder = fit(config)
    adapter = f"--model.init_args.adapters=[{folder / 'adapter.safetensors'}]"
    run("test", CONFIGS / "evaluate" / "resolution_mini.yaml", folder / "test", adapter)
    return folder


def side_by_side(work: Callable[[Path], T], pattern: str) -> list[T]:
    """Do some work for each config, on a machine without a GPU for as many at once as it has cores.

    Args:
        work: starts processes.
        pattern: of the configs, below configs/.
    """
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, sorted(CONFIGS.glob(pattern))))


def cores() -> int:
    """Return how many processes to run at once; so small a base gains nothing from several cores for one."""
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def run(verb: str, config: Path, folder: Path, *more: str) -> None:
    """Run a config in a process of its own, unless its folder holds the result of one that succeeded.

    Args:
        verb: of `cli.py`.
        config: file.
        folder: of the run.
        more: options.

    Raises:
        InputError: if it fails.
    """
    result = folder / "result.json"
    if result.is_file() and json.loads(result.read_text())["status"] == "success":
        return
    words = [verb, "--config", str(config), f"--trainer.default_root_dir={folder}", *more]
    print("running", *words, flush=True)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "cli.py", *words]
    if subprocess.run(command, cwd=ROOT, env=env, stdout=sys.stderr, check=False).returncode:
        raise InputError(f"{verb} of {config.relative_to(ROOT)} failed; what it said is above")
