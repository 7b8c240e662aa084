"""Clocks, the machine's ceilings and counted operations."""

from __future__ import annotations

import contextlib
import gc
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

#: Name of a precision -> type of the frozen base, whether autocast is on, whether TF32 is allowed.
PRECISIONS = {
    "fp32": (torch.float32, False, False),
    "tf32": (torch.float32, False, True),
    "bf16": (torch.bfloat16, True, False),
}


@dataclass(frozen=True)
class Settings:
    """What all that is compared has in common.

    Attributes:
        device: `cpu` or `cuda`.
        precision: of PRECISIONS.
        batch: pictures per step.
        resolution: side of the pictures in pixels.
        rank: of the adapter of the attention layers.
        checkpointing: whether activations are computed again in the backward pass.
    """

    device: str
    precision: str
    batch: int
    resolution: int
    rank: int = 16
    checkpointing: bool = False

    def __str__(self) -> str:
        again = ", checkpointing" if self.checkpointing else ""
        return f"{self.precision}, batch {self.batch}, {self.resolution} px, rank {self.rank}{again}"

    def record(self) -> dict:
        """Return the settings as plain values."""
        return asdict(self)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the frozen base."""
        return PRECISIONS[self.precision][0]

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in bfloat16, if the precision says so."""
        with torch.autocast(self.device, torch.bfloat16, enabled=PRECISIONS[self.precision][1]):
            yield

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Allow TF32 in matrix products and convolutions alike, or in neither."""
        allowed = PRECISIONS[self.precision][2]
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


def wait(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the seconds of a call, with all that it gives to the device."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def free(device: str) -> None:
    """Give back memory that nothing refers to, and begin a new count of the peak."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks(device: str) -> dict[str, int]:
    """Return the most bytes since `free`: allocated and reserved on a GPU, of this process on a CPU."""
    if device == "cuda":
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
    status = Path("/proc/self/status").read_text()  # unlike getrusage, without what this process was forked from
    return {"process": 1024 * int(status.partition("VmHWM:")[2].split()[0])}


def machine(device: str) -> dict:
    """Describe what the numbers are of."""
    import diffusers
    import lightning
    import peft
    import transformers

    versions = {one.__name__: one.__version__ for one in (torch, lightning, diffusers, transformers, peft)}
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "threads": torch.get_num_threads(), "python": platform.python_version(), **versions}


def ceilings(settings: Settings, repeats: int = 5) -> dict[str, float]:
    """Measure the most operations per second of a large matrix product and of a large convolution.

    Returns:
        FLOP/s of each, the best of `repeats`; random numbers, in the type that the precision computes in.
    """
    kind = {"device": settings.device, "dtype": settings.dtype}
    large, calls = settings.device == "cuda", 10 if settings.device == "cuda" else 1
    side = 8192 if large else 1024
    a, b = torch.randn(side, side, **kind), torch.randn(side, side, **kind)
    batch, channels, pixels = (32, 640, 64) if large else (1, 320, 32)
    x, w = torch.randn(batch, channels, pixels, pixels, **kind), torch.randn(channels, channels, 3, 3, **kind)
    last = x.to(memory_format=torch.channels_last), w.to(memory_format=torch.channels_last)
    convolution = 2 * 9 * batch * channels**2 * pixels**2
    works = {
        "matrix product": (2 * side**3, lambda: a @ b),
        "convolution": (convolution, lambda: F.conv2d(x, w, padding=1)),
        "convolution, channels last": (convolution, lambda: F.conv2d(*last, padding=1)),
    }
    found = {}
    with settings.arithmetic(), torch.no_grad():
        for name, (operations, work) in works.items():
            work()
            taken = [seconds(lambda work=work: [work() for _ in range(calls)], settings.device) for _ in range(repeats)]
            found[name] = operations * calls / min(taken)
    return found


def operations(work: Callable[[], object]) -> int:
    """Count the floating-point operations of matrix products, convolutions and attention in a call, backward too.

    Attention is computed by its definition meanwhile, since fused kernels of CPUs are not counted.
    """
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return counter.get_total_flops()
