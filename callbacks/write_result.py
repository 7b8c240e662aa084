"""What a run came to, in one file."""

from __future__ import annotations

import time
from pathlib import Path

import lightning.pytorch as L

from stylelora.experiments.result import write_result
from stylelora.records import Metric


class WriteResult(L.Callback):
    """Writes `result.json` when a run ends: success, failed or cancelled; settings, versions, time, memory, metrics.

    Metrics are those that the module and the other callbacks offer as `metrics`, from the last validation; `epoch` says
    which that was.
    """

    def __init__(self) -> None:
        self.started: float | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock; from here on a failure is written down."""
        del pl_module
        if stage == "fit":
            self.started = time.monotonic()
            if trainer.is_global_zero:
                Path(trainer.default_root_dir, "result.json").unlink(missing_ok=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write success."""
        self._write(trainer, pl_module, "success", None)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what stopped the run."""
        status = "cancelled" if isinstance(exception, KeyboardInterrupt) else "failed"
        if self.started is not None:
            self._write(trainer, pl_module, status, f"{type(exception).__name__}: {exception}")

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, status: str, error: str | None) -> None:
        if not trainer.is_global_zero:
            return
        metrics: dict[str, Metric] = {}
        for source in (pl_module, *trainer.callbacks):
            metrics |= getattr(source, "metrics", {})
        write_result(
            Path(trainer.default_root_dir),
            status=status,
            error=error,
            seconds=time.monotonic() - self.started,
            epoch=trainer.current_epoch,
            dataset=getattr(trainer.datamodule, "fingerprint", None),
            metrics=metrics,
        )
