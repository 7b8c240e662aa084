"""CLIP score while training: do samples of the adapter still show what their prompts say?"""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as L

from stylelora.data.images import to_pil
from stylelora.distributed import gather_rows
from stylelora.files import append
from stylelora.lora.read import BASE
from stylelora.metrics.clip_score import CLIP_SCORE, score_samples
from stylelora.metrics.encoders import ClipEncoder, ImageTextEncoder
from stylelora.metrics.statistics import mean_interval
from stylelora.records import Metric, SampleBatch

MOST_REAL = 32  # real pictures that are scored


class CLIPScore(L.Callback):
    """Scores the samples of validation, and the base's, against their prompts without trigger words.

    Logs `val/clip_score` and `val/clip_score_base`, and as `val/clip_score_real` that of the style's own held-out
    pictures with their captions, which may be as hard to recognise as its samples. `fit` appends each sample's score to
    `clip_score.jsonl` in the run's folder. `metrics` holds the last validation's means with intervals over prompts,
    nothing if it made no scores.

    Args:
        scorer: CLIP model that scores: mini, a folder or a hub id; preferably one that is not part of the base; null
            means no scores.
    """

    def __init__(self, scorer: str | None = "mini") -> None:
        self.scorer = scorer
        self.encoder: ImageTextEncoder | None = None  # the callback's own: a module's would be saved with it
        self.rows: list[dict] = []
        self.real: float | None = None
        self.metrics: list[Metric] = []
        self.path: Path | None = None
        self.size: int | None = None  # of the file, bytes, when a checkpoint was saved

    def load_encoder(self, trainer: L.Trainer) -> ImageTextEncoder:
        """Load the judge."""
        return ClipEncoder(self.scorer, trainer.strategy.root_device)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the judge now, so that a missing one is noticed before hours of training."""
        if stage in ("fit", "validate") and self.encoder is None and self.scorer is not None:
            self.encoder = self.load_encoder(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start with an empty file, or with what a resumed run had scored up to its checkpoint."""
        self.path = Path(trainer.default_root_dir, "clip_score.jsonl")
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.truncate(min(self.size or 0, file.tell()))

    def state_dict(self) -> dict[str, int]:
        """Remember the size of the file in checkpoints."""
        return {"size": self.path.stat().st_size if self.path is not None and self.path.is_file() else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore it from a checkpoint."""
        self.size = state_dict["size"]

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, *_: object
    ) -> None:
        """Score a batch of samples; ignore other batches."""
        if self.encoder is not None and isinstance(outputs, SampleBatch) and not trainer.sanity_checking:
            self.rows += score_samples(self.encoder, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join the processes' scores, log the means, write the file."""
        rows, self.rows, self.metrics = gather_rows(self.rows, key="index"), [], []
        for key, condition, name in (
            (("score", None, "clip_score"), ("base_score", BASE, "clip_score_base")) if rows else ()
        ):
            mean = mean_interval([row[key] for row in rows], groups=[row["prompt"] for row in rows])
            self.metrics.append(CLIP_SCORE.of(mean, condition, self.encoder.name))
            pl_module.log(f"val/{name}", mean.value)  # every process has all rows: nothing to reduce
        if rows and (real := self._real_score(trainer)) is not None:
            pl_module.log("val/clip_score_real", real)
        if rows and trainer.is_global_zero and trainer.state.fn == "fit":
            at = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            append(self.path, "".join(json.dumps(at | row, ensure_ascii=False) + "\n" for row in rows))

    def _real_score(self, trainer: L.Trainer) -> float | None:
        """Score held-out pictures with their captions, once; None without such pictures."""
        dataset = getattr(trainer.datamodule, "dataset", None)
        if self.real is None and dataset is not None and dataset.held_out:
            pictures = dataset.held_out[:MOST_REAL]
            images = self.encoder.encode_images([to_pil(dataset.image("held_out", i)) for i in range(len(pictures))])
            texts = self.encoder.encode_texts([picture.text for picture in pictures])
            self.real = (images * texts).sum(1).mean().item()
        return self.real
