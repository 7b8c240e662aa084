"""Where the steps of a study run: each launcher starts them and yields each as it ends, with why it failed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

from stylelora.runs.start import stop_all
from stylelora.studies.work import Step, work


def local(steps: Sequence[Step], workers: int) -> Iterator[tuple[Step, str]]:
    """Run steps on this machine, a few at once; of several GPUs each gets its own."""
    devices: SimpleQueue[str] = SimpleQueue()
    for _, device in zip(range(workers), itertools.cycle(gpus() or [""]), strict=False):
        devices.put(device)

    def on_a_device(step: Step) -> str:
        device = devices.get()
        try:
            return work(step, **({"CUDA_VISIBLE_DEVICES": device} if device else {}))
        finally:
            devices.put(device)

    pool = ThreadPoolExecutor(workers)
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

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else list(map(str, range(torch.cuda.device_count())))


def workers_here() -> int:
    """Return how many steps run at once on this machine: one on each GPU, or else on each core."""
    return len(gpus()) or os.cpu_count() or 1
