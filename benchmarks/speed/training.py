"""Sections on training: beside what the public scripts do, gain by gain, and memory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.speed.bases import Parts
from benchmarks.speed.clocks import Settings, free, operations, peaks
from benchmarks.speed.loops import DIFFUSERS, KOHYA, Loop, Options
from benchmarks.speed.ours import Ours, Turns
from benchmarks.speed.pictures import make_pictures

PICTURES = 20
BLOCK = 0.6, 3, 10  # seconds of a block of steps, and its fewest and most steps
PUBLIC = {"diffusers": DIFFUSERS, "kohya": KOHYA}
CACHED = Options(cached_latents=True, cached_texts=True, asks=())
#: What is told of the gains -> options; one thing changes from row to row of the first table, and from `CACHED` in the
#: second.
TOWARDS = {
    "as diffusers' script": DIFFUSERS,
    "+ pictures encoded once": Options(cached_latents=True),
    "+ captions encoded once": Options(cached_latents=True, cached_texts=True),
    "+ the loss is not asked for": CACHED,
}
EACH = {
    "without SDPA": replace(CACHED, sdpa=False),
    "gradients to the UNet's input": replace(CACHED, input_gradient=True),
    "kohya's layers": replace(CACHED, adapter="kohya"),
    "noise drawn on the CPU, keyed per picture": replace(CACHED, keyed=True),
    "fused AdamW": replace(CACHED, fused=True),
    "channels_last": replace(CACHED, channels_last=True),
    "cuDNN tries its algorithms": replace(CACHED, tuned=True),
    "two processes read ahead (with diffusers' script)": replace(DIFFUSERS, workers=2),
}


@dataclass
class Bench:
    """What the sections share: a base, its pictures, and how much time there is.

    Attributes:
        base: `model.base`.
        folder: of pictures and caches.
        settings: of the run; sections change what they vary.
        repeats: blocks of each loop.
        ends: when the benchmark should be done, of `time.monotonic`.
    """

    base: str
    folder: Path
    settings: Settings
    repeats: int
    ends: float
    _parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """Return the base's networks, loaded once."""
        self._parts = self._parts or Parts.of(self.base)
        return self._parts

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return self.ends - time.monotonic()

    def root(self, settings: Settings) -> Path:
        """Return the folder of pictures, half as large again as they are trained at, as photos are."""
        side = settings.resolution * 3 // 2
        return make_pictures(self.folder / f"pictures{side}", PICTURES, side)

    def loop(self, settings: Settings, options: Options) -> Loop:
        """Return a loop."""
        return Loop(self.parts, self.root(settings), settings, options)

    def ours(self, settings: Settings) -> Ours:
        """Return our training."""
        return Ours(self.base, self.root(settings), settings, self.folder / "cache")


def block_steps(seconds: float) -> int:
    """Return the steps of a block, for a step of some seconds."""
    wanted, fewest, most = BLOCK
    return max(fewest, min(most, round(wanted / seconds)))


def interleaved(loops: Mapping[str, Loop], repeats: int, ours: Ours | None = None) -> dict[str, list[float]]:
    """Time loops in turn, A B C A B C ..., and ours among them.

    Returns:
        seconds of a step of each loop, per block; what comes before is warm-up.
    """
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for loop in loops.values():
        loop.run(2)  # warm-up
    steps = block_steps(max(loop.run(2) for loop in loops.values()))

    def others() -> None:
        for name, loop in loops.items():
            taken[name].append(loop.run(steps))

    if ours is None:
        for _ in range(repeats + 1):
            others()
    else:
        turns = Turns(ours.settings, steps, repeats, others)
        ours.fit(turns.last, turns)
        taken["ours"], ours.tf32 = turns.seconds, turns.tf32
    return {name: values[-repeats:] for name, values in taken.items()}


def compared(settings: Settings, repeats: int, loops: Mapping[str, Loop], ours: Ours) -> dict[str, Any]:
    """Compare ours with what both scripts do, at equal settings."""
    for one in (*loops.values(), ours):
        one.under(settings)
    taken = interleaved(loops, repeats, ours)
    phases = {name: loop.measure_phases(5) for name, loop in loops.items()} | {"ours": ours.phases(5)}
    return {"settings": settings.record(), "seconds": taken, "phases": phases, "tf32": ours.tf32}


def training(bench: Bench, save: Callable[[Any], None]) -> None:
    """Compare at each precision and batch size; the most telling come first."""
    found, own, enough = [], bench.settings, time.monotonic() + 0.55 * bench.left
    cases = {own.precision: [(own.precision, own.batch)]}  # by what networks are built in
    if own.device == "cuda":
        cases = {"bf16": [("bf16", 1), ("bf16", 4)], "fp32": [("fp32", 1), ("tf32", 4), ("fp32", 4), ("tf32", 1)]}
    for built, several in cases.items():
        settings = replace(own, precision=built)
        loops = {name: bench.loop(settings, one) for name, one in PUBLIC.items()}
        ours = bench.ours(settings)
        for precision, batch in several:
            if time.monotonic() > enough:
                return  # the other sections have their share, too
            found.append(compared(replace(own, precision=precision, batch=batch), bench.repeats, loops, ours))
            save(found)
        del loops, ours
        free(own.device)


def work(bench: Bench, save: Callable[[Any], None]) -> None:
    """Count the operations of a step per picture: what must be done, and what encoding adds."""
    settings = replace(bench.settings, precision="fp32", batch=1)
    loop = bench.loop(settings, Options())
    batch = next(loop.batches)
    given = loop.given(batch)
    save(
        {
            "step": operations(lambda: loop.loss(**given).backward()),
            "picture": operations(lambda: loop.encode(batch["pixels"])),
            "caption": operations(lambda: loop.embed(batch["tokens"])),
        }
    )


def gains(bench: Bench, save: Callable[[Any], None]) -> None:
    """Attribute the gains: from the public loop towards ours one by one, and each of the others alone."""
    own, several = bench.settings, TOWARDS | EACH
    if own.device == "cuda":
        graph = replace(CACHED, launch="graph")
        several["one CUDA graph"] = graph
        several["one CUDA graph, fused AdamW, channels_last"] = replace(graph, fused=True, channels_last=True)
    loops = {name: bench.loop(own, options) for name, options in several.items()}
    taken = interleaved(loops, bench.repeats, bench.ours(own))
    save({"settings": own.record(), "towards": list(TOWARDS), "seconds": taken})


def compiled(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time blocks compiled by `torch.compile`, beside the loop they change; what compiling takes, too."""
    own = bench.settings
    loops = {"eager": bench.loop(own, CACHED), "compiled": bench.loop(own, replace(CACHED, launch="compiled"))}
    with time_limit(bench.left):
        started = time.perf_counter()
        loops["compiled"].run(1)
        first = time.perf_counter() - started
        save({"settings": own.record(), "seconds": interleaved(loops, bench.repeats), "first step": first})


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError when the time is up, as soon as Python has its turn again."""

    def end(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(max(1, round(seconds)))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def memory(bench: Bench, save: Callable[[Any], None]) -> None:
    """Measure the most memory of each training, over three steps: alone on the GPU, or in a process of its own."""
    found, cuda = [], bench.settings.device == "cuda"
    cases = [("bf16", True), ("fp32", False), ("bf16", False)] if cuda else [("fp32", False)]
    for precision, checkpointing in cases:
        settings = replace(bench.settings, precision=precision, checkpointing=checkpointing)
        most = {}
        for name in ("ours", *PUBLIC):
            if cuda:
                most[name] = alone(name, bench, settings)
                continue
            bench.root(settings)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                bare = replace(bench, _parts=None)
                most[name] = pool.submit(alone, name, bare, settings).result()
        found.append({"settings": settings.record(), "most": most})
        save(found)


def alone(name: str, bench: Bench, settings: Settings) -> dict[str, int]:
    """Train three steps and return the most bytes meanwhile."""
    free(settings.device)
    if name == "ours":
        bench.ours(settings).fit(3)
    else:
        loop = bench.loop(settings, PUBLIC[name])
        if settings.device == "cpu":
            bench._parts = None  # networks that the loop does not need are not its own
        loop.run(3)
        del loop
    found = peaks(settings.device)
    free(settings.device)
    return found
