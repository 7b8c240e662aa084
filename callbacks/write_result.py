"""The result of a run, in one file."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L

from stylelora.console.family import DEVICES, DeviceLost
from stylelora.console.stopping import STOPPING, reason
from stylelora.files import write
from stylelora.records import Endpoint, InputError, Metric
from stylelora.runs.card import write_card
from stylelora.runs.folder import adapter_file
from stylelora.runs.loggers import log_outcome
from stylelora.runs.pictures import say_kept
from stylelora.runs.result import write_result
from stylelora.runs.verify import check_adapters

log = logging.getLogger(__name__)


class WriteResult(L.Callback):
    """Writes `result.json`: running, then success, failed or cancelled; settings, versions, time, memory, metrics.

    After a training it also writes `NAME.md`, the adapter's model card.

    Metrics are those that the module and the other callbacks offer as `metrics`. They are of the adapter that is kept,
    as `val/kept_step` says; a module that logs none gives those of its last validation. After an exception they are of
    what was finished until then. A test's stand beside the p-values of `tests`.
    """

    def __init__(self) -> None:
        self.started: float | None = None
        self.before = b""  # the earlier result of a resumed run, until that trains
        self.made = self.trained = False  # whether there is anything of this run, or an adapter
        self.seconds = 0.0  # that the run had taken before it was resumed
        self.epochs: int | None = None  # once they are finished
        self.epoch: int | None = None
        self.step: int | None = None
        self.warning = ""
        self.kept_metrics: list[Metric] = []
        self.tests: list[Endpoint] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock, unless it runs."""
        del pl_module
        if stage != "validate" and self.started is None:
            self.begin(trainer)
        self.made = True

    def begin(self, trainer: L.Trainer) -> None:
        """Start the clock and write that the run is running: that is what a run leaves that is killed.

        The run's folder is taken for its own, without anything of another run.
        """
        self.started, file = time.monotonic(), Path(trainer.default_root_dir, "result.json")
        self.before = file.read_bytes() if file.is_file() else b""
        self._write(trainer, "running", None)
        DEVICES.last_words = lambda error: self._end(trainer, error)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on the earlier result does not hold."""
        del trainer, pl_module
        self.before, self.epochs = b"", None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try what was saved, on the device of the training.

        Raises:
            InputError: if that is no adapter.
        """
        self.trained, self.epochs = trainer.global_step > 0, self.epochs or trainer.current_epoch
        if hasattr(pl_module, "adapter_layers") and trainer.is_global_zero and self.trained:
            files = [adapter_file(Path(trainer.default_root_dir), which) for which in ("", "-last")]
            check_adapters([file for file in files if file.is_file()], pl_module.unet)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep this validation's metrics if its adapter is kept."""
        if trainer.sanity_checking:
            return
        if trainer.callback_metrics.get("val/kept_step", trainer.global_step) == trainer.global_step:
            self.kept_metrics = _offered(trainer, pl_module, "metrics")
            self.epoch, self.step = trainer.current_epoch, trainer.global_step

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write success, and the model card.

        Raises:
            InputError: if nothing was trained.
        """
        if self.epochs is not None and not self.trained and b'"success"' not in self.before:
            self.on_train_end(trainer, pl_module)  # killed after its last step
        if not self.trained:
            done = f"the run has its {trainer.global_step} steps already; raise max_steps or max_epochs"
            raise InputError(f"nothing was trained: {done if trainer.global_step else 'its time was over'}")
        self.warning = getattr(getattr(pl_module, "kept", None), "warning", "")
        self._write(trainer, "running", None)  # the card shows it
        if trainer.is_global_zero:
            write_card(Path(trainer.default_root_dir))
            for logger in trainer.loggers:
                log_outcome(logger, pl_module.hparams, self.kept_metrics, trainer.global_step)
                logger.save()
        self._write(trainer, "success", None)  # last: what says so has everything

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the test measured."""
        self.kept_metrics = _offered(trainer, pl_module, "metrics")
        self.tests = _offered(trainer, pl_module, "tests")
        self._write(trainer, "success", None)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write success."""
        del pl_module
        self._write(trainer, "success", None)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what stopped the run; of input that is refused before there is anything, leave nothing."""
        del pl_module
        if self.started is None or not trainer.is_global_zero:
            return
        try:
            self._end(trainer, exception)
        except OSError as refused:  # a full disk may be what stopped it: that is what is to be said
            log.warning("result.json could not be written: %s", refused)

    def _end(self, trainer: L.Trainer, exception: BaseException) -> None:
        file, exception = Path(trainer.default_root_dir, "result.json"), DEVICES.cause(exception)
        refused = isinstance(exception, InputError) and not isinstance(exception, DeviceLost)
        number = getattr(exception, "number", STOPPING.asked) if isinstance(exception, SystemExit) else None
        if refused and self.before:
            write(file, self.before)
        elif refused and not self.made:
            file.unlink(missing_ok=True)
        elif number is not None:
            self._write(trainer, "cancelled", reason(number))
            write_card(file.parent)
        else:
            cancelled = isinstance(exception, KeyboardInterrupt)  # a notebook's
            self._write(trainer, "cancelled" if cancelled else "failed", f"{type(exception).__name__}: {exception}")
        say_kept(file.parent)

    def _write(self, trainer: L.Trainer, status: str, error: str | None) -> None:
        if not trainer.is_global_zero:
            return
        write_result(
            Path(trainer.default_root_dir),
            status=status,
            error=error,
            seconds=self._seconds(),
            epoch=self.epoch,
            step=self.step,
            warning=self.warning,
            epochs=trainer.current_epoch if self.epochs is None else self.epochs,
            dataset=getattr(trainer.datamodule, "dataset_hash", None),
            metrics=self.kept_metrics,
            tests=self.tests,
        )

    def state_dict(self) -> dict[str, Any]:
        """Remember the kept adapter's metrics in checkpoints, and the time until then."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "metrics": [metric.as_record() for metric in self.kept_metrics],
            "seconds": self._seconds(),
            "epochs": self.epochs,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them from a checkpoint."""
        self.epoch, self.step = state_dict["epoch"], state_dict["step"]
        self.kept_metrics = [Metric.of_record(record) for record in state_dict["metrics"]]
        self.seconds, self.epochs = state_dict["seconds"], state_dict["epochs"]

    def _seconds(self) -> float:
        """Return the wall time of the run, over all its parts."""
        return self.seconds + time.monotonic() - (self.started or time.monotonic())


def _offered(trainer: L.Trainer, pl_module: L.LightningModule, name: str) -> list:
    """Join what the module and the callbacks offer under a name."""
    offered = (getattr(source, name, None) for source in (pl_module, *trainer.callbacks))
    return [one for part in offered if isinstance(part, list) for one in part]
