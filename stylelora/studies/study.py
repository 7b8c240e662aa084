"""The program `study`: runs a whole study with one command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from stylelora.data.prompts import read_prompts
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file, run_folder
from stylelora.runs.pictures import read_lines
from stylelora.runs.start import ROOT, start, stop_all
from stylelora.studies.tables import (
    ORIGINAL_RESOLUTION,
    ORIGINAL_STYLES,
    gallery,
    resolution_table,
    results,
)

CONFIGS = ROOT / "configs"
#: Question -> the configs of its trainings, below configs/.
PATTERNS = {"styles": "train/mini/*.yaml", "resolution": "ablations/resolution/mini_*.yaml"}
T = TypeVar("T")


def study(question: Literal["styles", "resolution"]) -> None:
    """Run a study on the embedded base and print its tables; finished runs are skipped, stopped ones go on.

    Args:
        question: which study: styles or resolution; styles is the four adapters and two blends
            (`configs/evaluate/mini.yaml`), resolution the same watercolours from 4 to 64 px, enlarged in two ways
            (`configs/ablations/resolution/mini_*.yaml`).

    Raises:
        InputError: if a run fails.
    """
    try:
        _answer(question)
    except SystemExit:
        stop_all()
        folders = [run_folder(config, CONFIGS) for config in sorted(CONFIGS.glob(PATTERNS[question]))]
        unfinished = [str(folder) for folder in folders if status_of(folder) != "success"]
        print(f"\nnot finished: {', '.join(unfinished) or 'the test'}", file=sys.stderr)
        raise


def _answer(question: str) -> None:
    if question == "styles":
        adapters = [adapter_file(folder) for folder in side_by_side(fit, PATTERNS[question])]
        config = CONFIGS / "evaluate" / "mini.yaml"
        folder = run_folder(config, CONFIGS)
        run("test", config, folder, f"--trainer.devices={cores()}", adapters=adapters)
        print(ORIGINAL_STYLES, results(folder), f"\nlook at {folder / 'grid.png'}", sep="\n")
        return
    folders = side_by_side(fit_and_test, PATTERNS[question])
    print(ORIGINAL_RESOLUTION, resolution_table(folders), f"\nlook at {gallery(folders)}", sep="\n")


def fit(config: Path) -> Path:
    """Train an adapter and return the run's folder; sampling only after the last epoch does not change the weights."""
    folder = run_folder(config, CONFIGS)
    run("fit", config, folder, f"--model.sample_every_n_epochs={10**9}")
    return folder


def fit_and_test(config: Path) -> Path:
    """Train an adapter of the resolution study, test it on full-resolution pictures, and return the run's folder."""
    folder = fit(config)
    adapter = adapter_file(folder)
    words = f"--model.adapters=[{adapter}]"
    run("test", CONFIGS / "evaluate" / "resolution_mini.yaml", folder / "test", words, adapters=[adapter])
    return folder


def side_by_side(work: Callable[[Path], T], pattern: str) -> list[T]:
    """Call `work` for each config; without a GPU, as many at once as there are cores.

    Args:
        work: starts processes.
        pattern: glob pattern of the configs, below configs/.
    """
    with ThreadPoolExecutor(cores()) as pool:
        try:
            return list(pool.map(work, sorted(CONFIGS.glob(pattern))))
        except SystemExit:
            stop_all()  # the pool would wait for them
            raise


def cores() -> int:
    """Return how many processes to run at once; with so small a base, one process gains nothing from more cores."""
    import torch

    return 1 if torch.cuda.is_available() else os.cpu_count() or 1


def status_of(folder: Path) -> str | None:
    """Return how a folder's run ended: success, failed or cancelled, or running; None: there is no run."""
    file = folder / "result.json"
    return json.loads(file.read_text())["status"] if file.is_file() else None


def goes_on(config: Path, folder: Path) -> bool:
    """Return whether a folder has a training with the config's present settings that was stopped, and its state."""
    import yaml

    used = folder / "config.yaml"
    if status_of(folder) not in ("cancelled", "running") or not used.is_file():
        return False
    wanted = yaml.safe_load(config.read_text())
    return any((folder / "checkpoints").glob("*.ckpt")) and _holds(yaml.safe_load(used.read_text()), wanted)


def is_answered(config: Path, folder: Path, adapters: Sequence[Path] = ()) -> bool:
    """Return whether a folder has the result of a successful run with the config's present settings; if not, say why.

    The inputs of a run are identified by what it recorded: the hashes of the adapters, and the prompts.

    Args:
        config: config file.
        folder: folder of the run.
        adapters: adapter files that a test reads.
    """
    import yaml

    file = folder / "result.json"
    if not file.is_file():
        return False
    result, reasons, wanted = json.loads(file.read_text()), [], yaml.safe_load(config.read_text())
    if result["status"] != "success":
        reasons.append(f"it ended as {result['status']}")
    if not _holds(result["config"], wanted):
        reasons.append(f"{config.name} has changed since")
    if adapters and not reasons:
        made = read_lines(folder / "pictures.jsonl")
        if sorted(made[0]["adapters"].values()) != sorted(sha256(one.read_bytes()).hexdigest() for one in adapters):
            reasons.append("its adapters have changed since")
        prompts = Path(wanted["data"]["init_args"]["file"])
        if {row["content"] for row in made} != {one.prompt for one in read_prompts(prompts)}:
            reasons.append(f"{prompts.name} has changed since")
    if reasons:
        print(f"{folder} has a result, but {', '.join(reasons)}: running again", flush=True)
    return not reasons


def _holds(used: Any, written: Any) -> bool:
    """Return whether the used settings contain all written ones, at any depth, except adapters given by hand."""
    if isinstance(written, dict):
        rest = {name: value for name, value in written.items() if name != "adapters"}
        return isinstance(used, dict) and all(_holds(used.get(name), value) for name, value in rest.items())
    if isinstance(written, list):
        return isinstance(used, list) and len(used) == len(written) and all(map(_holds, used, written))
    return used == written


def run(verb: str, config: Path, folder: Path, *more: str, adapters: Sequence[Path] = ()) -> None:
    """Run a config in its own process, unless its folder has the result of a successful run with the same settings.

    Args:
        verb: subcommand of the command line.
        config: config file.
        folder: folder of the run.
        more: further options.
        adapters: adapter files that a test reads.

    Raises:
        InputError: if the run fails.
    """
    words = [verb, "--config", str(config), f"--trainer.default_root_dir={folder}", *more]
    if verb == "fit" and goes_on(config, folder):
        words = [verb, "--resume", str(folder)]
    elif is_answered(config, folder, adapters):
        return
    print("running", *words, flush=True)
    code, name = start(*words), config.relative_to(ROOT)
    if code in (129, 130, 143):
        raise InputError(f"{verb} of {name} was stopped; run the same command again to continue")
    if code or status_of(folder) != "success":
        raise InputError(f"{verb} of {name} failed; see its messages above")
