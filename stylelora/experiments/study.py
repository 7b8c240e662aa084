"""Whole studies by one command: what is missing is run, and then the tables are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from stylelora.experiments.evaluation import BASE
from stylelora.experiments.evaluation_page import cell, markdown, tests_said
from stylelora.experiments.finished import read_finished
from stylelora.experiments.result import run_folder
from stylelora.metrics.comparison import equivalence
from stylelora.metrics.statistics import ratio_interval
from stylelora.records import InputError, Metric

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
T = TypeVar("T")
MARGIN = 0.1  # of attainment: a smaller difference does not matter

ORIGINAL = """The original study, on Stable Diffusion 1.5, four data sets that differ in all:

| data set | source size | images | best training loss | verdict |
|---|---|---|---|---|
| cartoon | about 2000x2000 | 61 | 0.1194 | excellent |
| watercolor | 416x416 | 100 | 0.0871 | good |
| anime | 61-94 px | 100 | 0.0871 | fair |
| pixelart | 16x16 | 100 | 0.0221 | failed |
"""


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
        print(results(folder))
        return
    folders = side_by_side(fit_and_test, "ablations/resolution/mini_*.yaml")
    print(ORIGINAL)
    print(resolution_table(folders))


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


def results(folder: Path) -> str:
    """Return the main table of a finished test, in Markdown."""
    record = json.loads((folder / "result.json").read_text())
    metrics = {name: as_metric(value) for name, value in record["metrics"].items()}
    arms = dict.fromkeys(name.split(": ")[0] for name in metrics if ": clip_score[" in name)
    names = dict.fromkeys(name.split(": ", 1)[1] for name in metrics)
    wanted = ("clip_score[", "style_gain[", "attainment[", "both_score[", "coin_flip[", "drift[", "memorisation[")
    columns = [name for prefix in wanted for name in names if name.startswith(prefix)]
    rows = [[arm, *(cell(metrics.get(f"{arm}: {column}")) for column in columns)] for arm in arms]
    return "\n".join([markdown(["arm", *columns], rows), *tests_said(metrics, record["tests"])])


def as_metric(value: dict) -> Metric:
    """Return a metric of a result file; ends that are null are infinite."""
    ends = {
        name: np.inf * sign if value[name] is None else value[name] for name, sign in (("ci_low", -1), ("ci_high", 1))
    }
    return Metric(**value | ends)


def resolution_table(folders: list[Path]) -> str:
    """Return the study's table, in Markdown: attainment on the scale whose 1 is the run from whole pictures.

    Args:
        folders: of finished runs with their tests, `mini_<kernel>_<source size>`.
    """
    tests = {folder: read_finished(folder / "test") for folder in folders}
    heading = ["from", "enlarged by", "training loss", "skill", "CLIP score", "style", "attainment"]
    rows = []
    for folder, test in tests.items():
        values, base = test.arm(None)[1], test.arms[BASE]
        kernel, size = re.fullmatch(r"mini_([a-z]+)_(\d+)", folder.name).groups()
        _, whole = next(test.arm(None) for other, test in tests.items() if other.name == f"mini_{kernel}_64")
        style, content = (next(name for name in values if name.startswith(kind)) for kind in ("style[", "clip_score["))
        own = values[style]
        if own.pictures != whole[style].pictures:
            raise InputError(f"{test.folder} has other prompts or seeds than the others; remove it and run again")
        span = whole[style].values - base[style].values
        attained = ratio_interval(own.values - base[style].values, span, own.units)
        same = "-"
        if folder.name != f"mini_{kernel}_64":
            margin = MARGIN * abs(span.mean())
            same = f"{equivalence(own.values, whole[style].values, own.units, margin):.3f}"
        skill = as_metric(json.loads((folder / "result.json").read_text())["metrics"]["skill"])
        cells = [f"{int(size)} px", kernel, f"{training_loss(folder):.4f}", cell(skill)]
        cells += [cell(values[name].mean) for name in (content, style)]
        rows.append([*cells, cell(attained), same])
    return markdown([*heading, "as good as whole (p)"], rows)


def training_loss(folder: Path) -> float:
    """Return the mean training loss of the last tenth of a run, from its TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))
