"""The trained adapter, as files that every program loads."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from PIL import Image
from torch import Tensor

from callbacks.progress import epoch_of_last_step, was_stopped
from stylelora.base.same_base import BASE_WEIGHTS, hash_of_weights
from stylelora.base.zero_terminal_snr import NOTE, has_zero_terminal_snr
from stylelora.data.images import save_png, to_pil
from stylelora.data.scan import content_hash
from stylelora.evaluation.own_style import HELD_OUT_SHARE
from stylelora.files import write
from stylelora.lora.read import START
from stylelora.lora.write import DType, vanishing, write_lora
from stylelora.records import InputError, SampleBatch, some
from stylelora.runs.folder import adapter_file
from stylelora.runs.kept import point
from stylelora.runs.notes import shared_name, thumbnail, training_notes
from stylelora.runs.result import git_hash

log = logging.getLogger(__name__)
KEPT = (".safetensors", ".preview.png")  # ends of the names of the kept adapter's files


class SaveAdapter(L.Callback):
    """Writes `NAME.safetensors`, the kept adapter, and `NAME-last.safetensors`; NAME is the run folder's.

    They have kohya's key names, which ComfyUI, A1111, Forge, kohya's scripts and diffusers read, and the notes and
    thumbnail that these show; `NAME.preview.png` is the kept adapter's first sample. The module says which is kept, as
    `val/kept_step`. Modules without an adapter are ignored.

    Args:
        every_n_epochs: also keep the adapter after every n-th epoch, as `NAME-epoch=003-step=000064.safetensors`.
        every_n_steps: also keep it after every n-th step of the optimiser.
        dtype: type of the weights in the files.
    """

    def __init__(
        self, every_n_epochs: int | None = None, every_n_steps: int | None = None, dtype: DType = "float32"
    ) -> None:
        for name, every in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if every is not None and every < 1:
                raise InputError(f"save_adapter.{name} is {every}; give a number of at least 1, or null")
        self.every_n_epochs, self.every_n_steps, self.dtype = every_n_epochs, every_n_steps, dtype
        self.sample: tuple[str, Image.Image] | None = None  # of this validation: its prompt and picture
        self.validated: tuple[int, float | None] = (-1, None)  # step of the last validation, and its skill
        self.saved = 0  # last step that `every_n_steps` saved
        self.kept: dict[str, Tensor] = {}  # the kept adapter's files, by the ends of their names

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring back the kept adapter of a resumed run: the folder may have lost it, or hold one of a later step."""
        del pl_module
        if not trainer.is_global_zero or not self.kept:
            return
        for end in KEPT:
            file, content = adapter_file(Path(trainer.default_root_dir)).with_suffix(end), self.kept.get(end)
            if content is None:
                file.unlink(missing_ok=True)
            elif not file.is_file() or file.read_bytes() != content.numpy().tobytes():
                write(file, content.numpy().tobytes())

    def state_dict(self) -> dict[str, Tensor]:
        """Remember the kept adapter's files in checkpoints, whose own adapter is another."""
        return self.kept

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restore them from a checkpoint."""
        self.kept = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the step that a resumed run begins at as saved: no step of it has been made."""
        del pl_module
        self.saved = trainer.global_step

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last epoch's sample."""
        del trainer, pl_module
        self.sample = None

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the first sample."""
        del trainer, pl_module
        if isinstance(outputs, SampleBatch) and 0 in outputs.index:
            place = outputs.index.index(0)
            self.sample = outputs.prompts[place], to_pil(outputs.images[place])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter if it is kept."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        skill = trainer.callback_metrics.get("val/skill")
        self.validated = trainer.global_step, None if skill is None else float(skill)
        if trainer.callback_metrics.get("val/kept_step") != trainer.global_step:
            return
        self._save(trainer, pl_module, "", trainer.current_epoch)
        preview = adapter_file(Path(trainer.default_root_dir)).with_suffix(".preview.png")
        if trainer.is_global_zero and self.sample is not None:
            save_png(self.sample[1], preview)
        elif trainer.is_global_zero:
            preview.unlink(missing_ok=True)  # it would show another
        if trainer.is_global_zero:
            files = {end: adapter_file(Path(trainer.default_root_dir)).with_suffix(end) for end in KEPT}
            held = {end: bytearray(file.read_bytes()) for end, file in files.items() if file.is_file()}
            self.kept = {end: torch.frombuffer(content, dtype=torch.uint8) for end, content in held.items()}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Save the adapter every n steps."""
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step > self.saved:
            self.saved = step
            self._save_here(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the adapter every n epochs."""
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save_here(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last adapter."""
        self._save(trainer, pl_module, "-last", trainer.current_epoch - 1)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save the last adapter of a training that is stopped."""
        if was_stopped(trainer, exception) and trainer.state.fn == "fit" and trainer.optimizers and trainer.global_step:
            try:
                self._save(trainer, pl_module, "-last", epoch_of_last_step(trainer))
            except OSError as refused:  # a full disk; the rest of the end is still to come
                log.warning("the last adapter cannot be saved: %s", refused)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last adapter of a run that was resumed when all was done, if the folder lost it."""
        if not adapter_file(Path(trainer.default_root_dir), "-last").is_file():
            self.on_train_end(trainer, pl_module)

    def _save_here(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        where = point(trainer.current_epoch, trainer.global_step)
        self._save(trainer, pl_module, f"-{where}", trainer.current_epoch)

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule, which: str, epoch: int) -> None:
        if not trainer.is_global_zero or not hasattr(pl_module, "adapter_layers"):
            return
        hparams, data = pl_module.hparams, trainer.datamodule
        validated, skill = self.validated
        measured = validated == trainer.global_step  # else skill and sample are of other weights
        file = adapter_file(Path(trainer.default_root_dir), which)
        notes = training_notes(
            name=file.stem, base=hparams.base, width=pl_module.unet.config.cross_attention_dim,
            prediction=pl_module.scheduler.config.prediction_type, dataset=data.dataset, settings=hparams,
            learning_rate=trainer.optimizers[0].defaults.get("lr"),
            batch_size=data.batch_size, devices=trainer.world_size, accumulated=trainer.accumulate_grad_batches,
            epoch=epoch, epochs=trainer.max_epochs, steps=trainer.global_step,
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),
        )  # fmt: skip
        notes |= {
            "ss_num_reg_images": str(len(data.prior.pictures)),
            "ss_prior_loss_weight": str(data.prior.options.weight),
            NOTE: str(has_zero_terminal_snr(pl_module.scheduler)),
            "base": shared_name(hparams.base),
            BASE_WEIGHTS: hash_of_weights(pl_module.unet),
            "style": data.style_name,
            "trigger": data.trigger,
            "licence": data.licence,
            "resolution": str(data.resolution),
            "epoch": str(epoch),
            "train_count": str(len(data.train)),
            "held_out_count": str(len(data.held_out)),
            HELD_OUT_SHARE: str(data.dataset.held_out_share),
            "held_out": content_hash(data.held_out),
            "git": git_hash(),
        }
        if hparams.start:
            notes[START] = f"{hparams.start:g}"
        if measured and skill is not None:
            notes["held_out_skill"] = f"{skill:.6f}"
        if measured and self.sample is not None:
            notes |= {"prompt": self.sample[0], "modelspec.thumbnail": thumbnail(self.sample[1])}
        layers, dtype = pl_module.adapter_layers(), self.dtype
        if faint := vanishing(layers, dtype):  # a training must not end because some layer has hardly learned
            log.warning(f"weights in {some(faint)} are too small for {dtype}; {file.name} is written in float32")
            dtype = "float32"
        write_lora(file, layers, notes, dtype=dtype)
