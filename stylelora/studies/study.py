"""Whole studies by one command: what is missing is run, and then the tables are printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from stylelora.records import InputError
from stylelora.runs.folder import run_folder
from stylelora.studies.tables import (
    ORIGINAL_RESOLUTION,
    ORIGINAL_STYLES,
    gallery,
    resolution_table,
    results,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
PROMPTS = CONFIGS / "evaluate" / "prompts_mini.txt"
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
        adapters = [folder / "adapter.safetensors" for folder in side_by_side(fit, "train/mini/*.yaml")]
        config = CONFIGS / "evaluate" / "mini.yaml"
        folder = run_folder(config, CONFIGS)
        run("test", config, folder, f"--trainer.devices={cores()}", inputs=[PROMPTS, *adapters])
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
    adapter = folder / "adapter.safetensors"
    words = f"--model.init_args.adapters=[{adapter}]"
    run("test", CONFIGS / "evaluate" / "resolution_mini.yaml", folder / "test", words, inputs=[PROMPTS, adapter])
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


def is_answered(config: Path, folder: Path, inputs: Sequence[Path] = ()) -> bool:
    """Tell whether a folder holds the result of a run that succeeded with what a config says now; if not, say why.

    Args:
        config: file.
        folder: of the run.
        inputs: files that the run reads.
    """
    import yaml

    file = folder / "result.json"
    if not file.is_file():
        return False
    result, reasons = json.loads(file.read_text()), []
    if result["status"] != "success":
        reasons.append(f"it ended as {result['status']}")
    if not _holds(result["config"], yaml.safe_load(config.read_text())):
        reasons.append(f"{config.name} has changed since")
    reasons += [f"{one} has changed since" for one in inputs if one.stat().st_mtime > file.stat().st_mtime]
    if reasons:
        print(f"{folder} has a result, but {', '.join(reasons)}: running again", flush=True)
    return not reasons


def _holds(used: Any, written: Any) -> bool:
    """Tell whether settings that were used have all that is written, at any depth, but for adapters given by hand."""
    if isinstance(written, dict):
        rest = {name: value for name, value in written.items() if name != "adapters"}
        return isinstance(used, dict) and all(_holds(used.get(name), value) for name, value in rest.items())
    if isinstance(written, list):
        return isinstance(used, list) and len(used) == len(written) and all(map(_holds, used, written))
    return used == written


def run(verb: str, config: Path, folder: Path, *more: str, inputs: Sequence[Path] = ()) -> None:
    """Run a config in a process of its own, unless its folder holds the result of one that succeeded with the same.

    Args:
        verb: of `cli.py`.
        config: file.
        folder: of the run.
        more: options.
        inputs: files that it reads; one that is newer than the result makes it run again.

    Raises:
        InputError: if it fails.
    """
    if is_answered(config, folder, inputs):
        return
    words = [verb, "--config", str(config), f"--trainer.default_root_dir={folder}", *more]
    print("running", *words, flush=True)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "cli.py", *words]
    if subprocess.run(command, cwd=ROOT, env=env, stdout=sys.stderr, check=False).returncode:
        raise InputError(f"{verb} of {config.relative_to(ROOT)} failed; what it said is above")
