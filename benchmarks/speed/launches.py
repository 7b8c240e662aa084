"""Section on how many operations a training step gives to the device: counted, so that no GPU is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning.pytorch as L
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.memory import autocast_as_on_cuda
from benchmarks.speed.training import PUBLIC, Bench

#: What only describes memory or reserves it, and what AdamW asks of its counters of steps, which stay on the processor.
NO_WORK = (
    *("detach", "_unsafe_view", "set_", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("device", "_local_scalar_dense", "_record_function_enter_new", "_record_function_exit"),
)
CASTS = ("_to_copy", "_foreach_copy_")


class Launches(TorchDispatchMode):
    """Counts operations that compute or copy something; one of a list of tensors counts once.

    Noise that ours draws on the processor, and batches put together there, count as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count it."""
        name = func.overloadpacket.__name__
        if not func.is_view and name not in NO_WORK:
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


class OfOneStep(L.Callback):
    """Counts the operations of the step after the first two, from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.mode, self.made = Launches(), 0

    def on_train_batch_end(self, *_: Any) -> None:
        """Begin after the second step, and end after the third."""
        self.made += 1
        if self.made == 2:
            self.mode.__enter__()
        elif self.made == 3:
            self.mode.__exit__(None, None, None)

    def on_exception(self, *_: Any) -> None:
        """End where the step fails."""
        if self.made == 2:
            self.mode.__exit__(None, None, None)


def launches(bench: Bench, save: Callable[[Any], None]) -> None:
    """Count a step of ours and of both baselines, in bf16 and in fp32: all operations, and casts among them."""
    found = []
    for precision in ("bf16", "fp32"):
        settings, counts = replace(bench.settings, precision=precision, batch=1), {}
        with autocast_as_on_cuda():
            step = OfOneStep()
            bench.ours(settings).fit(3, step)
            counts["ours"] = step.mode.count
            for name, options in PUBLIC.items():
                loop = bench.loop(settings, options)
                loop.optimizer.param_groups[0]["foreach"] = True  # AdamW's default on a GPU
                loop.run(2)
                with Launches() as mode:
                    loop.run(1)
                counts[name] = mode.count
                del loop
        of = {name: {"all": one.total(), "casts": sum(one[cast] for cast in CASTS)} for name, one in counts.items()}
        found.append({"settings": settings.record(), "operations": of})
        save(found)
