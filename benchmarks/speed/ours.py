"""Our training step, by the product itself: StyleLoRA, a data module and Lightning's Trainer, timed by a callback."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import Profiler

from benchmarks.speed.bases import ATTENTION
from benchmarks.speed.clocks import PRECISIONS, Settings, wait
from callbacks import LearningRate
from datamodules import StyleDataModule
from lightning_modules import StyleLoRA

#: What Lightning's profiler calls an action, by its end -> the phase it belongs to.
PHASES = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "training_step": "forward",
    "backward": "backward",
    "run_training_batch": "batch",
}


class Turns(L.Callback):
    """Times blocks of steps, and gives other loops their turn after each block.

    Args:
        settings: names the device.
        steps: steps of a block.
        repeats: number of blocks.
        others: is called after each block, and once before the first.
        warm: steps before the first block.
    """

    def __init__(
        self, settings: Settings, steps: int, repeats: int, others: Callable[[], object] = lambda: None, warm: int = 3
    ) -> None:
        self.device = settings.device
        self.steps, self.warm, self.others = steps, warm, others
        self.last = warm + steps * repeats
        self.seconds: list[float] = []  # of a step, per block
        self.first = 0.0  # when the first step had ended
        self.tf32: list[bool] = []  # whether ours computes in it: matrix products, convolutions
        self._made, self._started = 0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """End a block, if this was its last step."""
        del trainer, pl_module
        self._made += 1
        if self._made == 1:
            wait(self.device)
            self.first = time.perf_counter()
        after = self._made - self.warm
        if after < 0 or after % self.steps:
            return
        wait(self.device)
        self.tf32 = [torch.get_float32_matmul_precision() != "highest", torch.backends.cudnn.allow_tf32]
        if after:
            self.seconds.append((time.perf_counter() - self._started) / self.steps)
        self.others()
        wait(self.device)
        self._started = time.perf_counter()


class Phases(Profiler):
    """Adds up the seconds of each phase of a step, with the device waited for after each; but for the first step."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.device, self.steps = settings.device, -1
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Begin an action."""
        if _phase(action_name):
            wait(self.device)
            self._open[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """End an action."""
        if not (phase := _phase(action_name)) or action_name not in self._open:
            return
        wait(self.device)
        taken = time.perf_counter() - self._open.pop(action_name)
        if self.steps >= 0:
            self.seconds[phase] += taken
        if phase == "batch":
            self.steps += 1
            if self.steps == 0:
                self._began = time.perf_counter()
            self._ended = time.perf_counter()

    def of_step(self) -> dict[str, float]:
        """Return the seconds of each phase of a step; data of the last one, which none follows, are negligible."""
        found = {phase: taken / self.steps for phase, taken in self.seconds.items()}
        batch, whole = found.pop("batch"), (self._ended - self._began) / self.steps
        found["optimiser"] = batch - found["forward"] - found["backward"]
        found["logging"] = whole - batch - found["data"]
        return found


def _phase(action: str) -> str | None:
    name = action.rsplit(".", 1)[-1]
    owner = action.partition("]")[0]
    return PHASES.get(name) if owner in ("[Strategy", "run_training_batch", "[_TrainingEpochLoop") else None


class Ours:
    """The product's training of a base, on the pictures of a folder.

    Args:
        base: `model.base`.
        root: `data.root`.
        settings: as of the loops it is compared with.
        cache: `data.cache`.
        options: further options of StyleLoRA.
    """

    def __init__(self, base: str, root: Path, settings: Settings, cache: Path, **options: Any) -> None:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        self.root, self.cache = root, cache
        self.under(settings)
        options = {
            "base": base,
            "rank": settings.rank,
            "target_modules": list(ATTENTION),
            "optimizer": partial(torch.optim.AdamW, lr=1e-4, weight_decay=1e-2),
            "gradient_checkpointing": settings.checkpointing,
            "base_dtype": str(settings.dtype).removeprefix("torch."),
            **options,
        }
        self.module = StyleLoRA(**options)
        self.tf32: list[bool] = []  # as of `Turns`

    def under(self, settings: Settings) -> None:
        """Go on with another batch size, or with TF32."""
        self.settings, self.mixed = settings, PRECISIONS[settings.precision][1]

    def data(self, steps: int) -> StyleDataModule:
        """Return the data, with repeats so that an epoch has the steps."""
        settings, count = self.settings, sum(1 for _ in (self.root / "metadata.jsonl").open())
        repeats = 1 + 2 * steps * settings.batch // count  # twice, for the held-out ones are not trained on
        given = {"resolution": settings.resolution, "batch_size": settings.batch, "repeats": repeats}
        return StyleDataModule(root=str(self.root), trigger="zqx", cache=str(self.cache), **given)

    def fit(self, steps: int, *callbacks: L.Callback, profiler: Profiler | None = None, **trainer: Any) -> L.Trainer:
        """Train some steps as `cli.py fit` does with the settings of configs/train/sd15, without validation."""
        trainer = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "gradient_clip_val": 1.0} | trainer
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), self.settings.arithmetic():
            warnings.simplefilter("ignore")
            made = L.Trainer(
                accelerator="cpu" if self.settings.device == "cpu" else "gpu",
                devices=1,
                precision="bf16-mixed" if self.mixed else "32-true",
                max_steps=steps,
                logger=TensorBoardLogger(folder, name="", version="", default_hp_metric=False),
                log_every_n_steps=10,
                callbacks=[LearningRate(), *callbacks],
                profiler=profiler,
                **quiet,
                **trainer,
            )
            made.fit(self.module, self.data(steps))
            made.logger.finalize("success")
        return made

    def phases(self, steps: int) -> dict[str, float]:
        """Return the seconds of each phase of a step, with the device waited for after each."""
        profiler = Phases(self.settings)
        self.fit(steps + 1, profiler=profiler)
        return profiler.of_step()
