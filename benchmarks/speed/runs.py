"""Sections on whole runs: until something is seen, encoding, what a run is made of, many pictures, counted bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from benchmarks import data_scaling
from benchmarks import memory as bytes_of
from benchmarks.speed.bases import ATTENTION
from benchmarks.speed.ours import Turns
from benchmarks.speed.training import Bench
from stylelora.base.load import resolve_base, size_step
from stylelora.data.cache import Cache

ROOT = Path(__file__).resolve().parents[2]
WHERE = "STYLELORA_SHARES"  # environment variable: the file that `Shares` writes


def start(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time `--help`, and from the start of a process to the end of its first training step, with a filled cache."""
    found: dict[str, list[float]] = {"--help": [], "to the end of the first step": []}
    bare = replace(bench, _parts=None)
    for _ in range(bench.repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "cli.py", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        found["--help"].append(time.perf_counter() - began)
        began = time.perf_counter()
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found["to the end of the first step"].append(pool.submit(first_step, bare).result() - began)
        save(found)


def first_step(bench: Bench) -> float:
    """Train one step and return when it had ended; processes share this clock."""
    turns = Turns(bench.settings, steps=1, repeats=1)
    bench.ours(bench.settings).fit(1, turns)
    return turns.first


def encoding(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time encoding into an empty cache, and preprocessing, per picture."""
    from stylelora.preprocess.preprocess import preprocess

    own, base = bench.settings, resolve_base(bench.base)
    root = bench.root(own)
    dataset = bench.ours(own).data(1).dataset
    dataset.scan()
    dataset.choose_sizes(size_step(base))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        dataset.encode(Cache(Path(folder) / "cache", base, own.device))
        count = len(dataset.train) + len(dataset.held_out)
        found["encoding, networks loaded"] = count / (time.perf_counter() - began)
        save(found)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            preprocess(
                str(root), "zqx", "zqx", own.resolution, str(Path(folder) / "set"), captions=["metadata"], strict=False
            )
        found["preprocess"] = count / (time.perf_counter() - began)
    save(found)


class Shares(L.Callback):
    """Adds up what a run's time goes to, and writes it to the file that WHERE names."""

    def __init__(self) -> None:
        self.seconds = {"steps": 0.0, "held-out losses": 0.0, "sampling": 0.0, "scores and files of validations": 0.0}
        self.began = self.validation = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin a step."""
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """End a step."""
        self.seconds["steps"] += time.perf_counter() - self.began

    def on_validation_start(self, *_: Any) -> None:
        """Begin a validation."""
        self.validation = time.perf_counter() - self._validated()

    def on_validation_end(self, *_: Any) -> None:
        """End it: what is not a batch is scores and files."""
        self.seconds["scores and files of validations"] += time.perf_counter() - self.validation - self._validated()

    def _validated(self) -> float:
        return self.seconds["held-out losses"] + self.seconds["sampling"]

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Begin a batch of held-out pictures or of samples."""
        self.began = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Any, module: Any, out: Any, batch: Any, index: int, dataloader_idx: int = 0
    ) -> None:
        """End it."""
        kind = "sampling" if dataloader_idx else "held-out losses"
        self.seconds[kind] += time.perf_counter() - self.began

    def on_fit_end(self, *_: Any) -> None:
        """Write what was added up."""
        Path(os.environ[WHERE]).write_text(json.dumps(self.seconds))


def run(bench: Bench, save: Callable[[Any], None], *more: str) -> None:
    """Time `fit` with configs/quickstart.yaml as a user does, and what it is made of; encoding included.

    Args:
        bench: its device is used; the base is mini.
        save: takes the seconds.
        more: further words of the command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        words = [sys.executable, "cli.py", "fit", "--config=configs/quickstart.yaml"]
        words += [f"--trainer.callbacks={json.dumps([{'class_path': f'{__name__}.Shares'}])}"]
        words += [f"--trainer.default_root_dir={place / 'run'}", f"--data.cache={place / 'cache'}"]
        words += [f"--trainer.accelerator={'cpu' if bench.settings.device == 'cpu' else 'gpu'}", *more]
        began = time.perf_counter()
        environment = os.environ | {WHERE: str(place / "shares.json")}
        said = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
        whole = time.perf_counter() - began
        if said.returncode:
            raise RuntimeError(f"{said.stdout}{said.stderr}")
        shares = json.loads((place / "shares.json").read_text())
    shares["start, encoding, between the steps, saving"] = whole - sum(shares.values())
    save(shares | {"whole": whole})


def pictures(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time a step with few and with many pictures."""
    found = []
    for one in data_scaling.measured((100, 50_000), 100, bench.folder / "scaling"):
        found.append(one)
        save(found)


def counted(bench: Bench, save: Callable[[Any], None]) -> None:
    """Count the bytes of a step on SD 1.5's shape at 512 px, without a GPU."""
    found = []
    for precision, checkpointing in (("bf16", True), ("bf16", False), ("fp32", True), ("fp32", False)):
        settings = replace(
            bench.settings, device="any", precision=precision, batch=1, resolution=512, checkpointing=checkpointing
        )
        half = precision == "bf16"
        dtype = "bfloat16" if half else "float32"
        of_step = bytes_of.Settings(1, 512, dtype, half, checkpointing, settings.rank, ATTENTION)
        with bytes_of.autocast_as_on_cuda():
            found.append({"settings": asdict(settings), "bytes": bytes_of.peak_bytes(of_step)})
        save(found)
