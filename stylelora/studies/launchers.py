"""Where the steps of a study run: a launcher starts them, and yields each as it ends, with why it failed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from stylelora.records import InputError
from stylelora.runs.start import stop_all
from stylelora.studies.clusters import Ray, Slurm
from stylelora.studies.work import Step, work

Name = Literal["local", "ray", "slurm"]


class Launcher(Protocol):
    """Runs steps, at most `workers` at once."""

    workers: int

    def __call__(self, steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
        """Yield each step as it ends, with why it failed; "": it has not."""


class Local:
    """Runs steps on this machine; of several GPUs each step gets one.

    Args:
        workers: how many at once; None: as many as there are GPUs, or else cores.
    """

    def __init__(self, workers: int | None) -> None:
        self.gpus = gpus()
        self.workers = workers or len(self.gpus) or os.cpu_count() or 1

    def __call__(self, steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
        """Yield each step as it ends, with why it failed."""
        devices: SimpleQueue[str] = SimpleQueue()
        for _, device in zip(range(self.workers), itertools.cycle(self.gpus or [""]), strict=False):
            devices.put(device)

        def on_a_device(step: Step) -> str:
            device = devices.get()
            try:
                return work(step, **({"CUDA_VISIBLE_DEVICES": device} if device else {}))
            finally:
                devices.put(device)

        pool = ThreadPoolExecutor(self.workers)
        futures = {pool.submit(on_a_device, step): step for step in steps}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()  # the pool would wait for them
            raise
        finally:
            pool.shutdown()


def gpus() -> list[str]:
    """Return the names of this process's GPUs, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (visible or list(map(str, range(torch.cuda.device_count())))) if torch.cuda.is_available() else []


def launcher_of(name: Name, workers: int | None, folder: Path, slurm: dict[str, Any] | None) -> Launcher:
    """Return a launcher.

    Args:
        name: its name.
        workers: how many steps run at once; None: as many as can.
        folder: of the study.
        slurm: options of submitit.

    Raises:
        InputError: if what it needs is not there, or options are of another launcher.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")
    if slurm and name != "slurm":
        raise InputError(f"slurm has options for SLURM, but the launcher is {name}; add --launcher slurm")
    if name == "ray":
        return Ray(workers)
    return Slurm(workers, folder / "jobs", slurm or {}) if name == "slurm" else Local(workers)
