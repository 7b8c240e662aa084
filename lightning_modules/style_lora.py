"""Training of one style LoRA."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from stylelora.base.clip_skip import check_clip_skip
from stylelora.base.conditioning import Conditioning
from stylelora.base.load import load_unet, read_config, resolve_base, sampling_recipe
from stylelora.diffusion import noise
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_stages
from stylelora.diffusion.objective import Objective
from stylelora.diffusion.samples import Sampler
from stylelora.diffusion.schedulers import own_scheduler
from stylelora.diffusion.watch import Watch, check_checkpoint
from stylelora.distributed import gather_rows
from stylelora.lora.average import Average
from stylelora.lora.checkpoint import adapter_state, check_state
from stylelora.lora.continued import continue_from
from stylelora.lora.factors import Layer
from stylelora.lora.inject import adapter_disabled, adapter_parameters, inject_lora
from stylelora.lora.options import LoraOptions
from stylelora.lora.parameter_groups import optimizer_of
from stylelora.lora.text_encoder import TextEncoderLoRA, named_adapters, trained_text_encoder
from stylelora.lora.write import trained_layers
from stylelora.metrics.skill import measured_skill
from stylelora.precision import BaseDType, cast_frozen, same_precision_everywhere
from stylelora.records import InputError, Metric, SampleBatch
from stylelora.runs.kept import Kept, Rule, content_of
from stylelora.schedules import check_optimizer, settings_of, with_schedule
from stylelora.seeds import seed_of


class StyleLoRA(L.LightningModule):
    """Trains one LoRA of a UNet (Hu et al. 2021): W x + alpha / rank * B A x; only A and B are trained, in float32.

    On held-out pictures, with fixed noise and timesteps for each, it logs `val/loss` and `val/skill`; for prompts it
    returns a SampleBatch. Skill is 1 - loss / loss of the base on the same draws: 0 is the base. Unlike losses, skills
    can be compared between data sets. `val/kept_step` is the step whose adapter is kept (`stylelora.runs.kept`).

    Args:
        base: base model: `mini`, a diffusers folder, a single-file checkpoint (.safetensors) or a hub id; for example
            stable-diffusion-v1-5/stable-diffusion-v1-5.
        rank: rank of the LoRA; a higher rank can learn more and makes a larger file.
        alpha: the update is multiplied by alpha / rank; the file records it, so programs that load it scale by it, too;
            default: the rank, so that another rank is not another strength.
        lora_dropout: dropout on the LoRA's inputs while training; a probability, 0 to below 1.
        caption_dropout: share of pictures trained with an empty prompt; classifier-free guidance with the adapter needs
            some; 0 to below 1.
        target_modules: layers that get a LoRA; given by the last parts of their names, such as to_q, conv1 or
            attn2.to_k.
        lora: other ranks in some layers, another scale, initialisation or dropout (lora.rank_pattern and others).
        text_encoder: LoRA of the text encoder, from text_encoder.rank 1 on; default: none.
        init_from: LoRA file that the training continues, of any program; default: it starts anew.
        lora_plus_ratio: learning rate of the LoRA's B over that of its A, such as 16 (LoRA+, Hayou et al. 2024);
            default: one rate for both.
        optimizer: optimiser, as a class with its options.
        lr_scheduler: schedule of the learning rate, as a class with its options, such as stylelora.schedules.Schedule;
            it takes a step after each of the optimiser's; null: the learning rate is constant.
        ema_decay: keep an exponential moving average of the adapter with this decay, such as 0.999; it is what is
            validated, sampled and saved; null: off.
        keep: which validated adapter is kept: balanced (the highest skill among those whose samples still show what
            prompts say), skill (the highest skill) or last.
        keep_share: share of the CLIP score of the base, or of the style's own pictures if they have less, that balanced
            asks for.
        objective: loss, noise and timesteps of the training; default: the plain loss.
        num_inference_steps: denoising steps of each sample picture; default: depends on the base (30 for SD 1.5).
        guidance_scale: guidance scale (CFG) of the samples; how strongly they follow their prompt; 1 means no guidance;
            default: depends on the base (7.5 for SD 1.5).
        start: share of the sampler's steps that are made without the LoRA and its trigger word, 0 to below 1; 0.2
            leaves the first fifth, where the layout is decided, to the base; written into the file, which `predict` and
            `test` follow. With model.objective.timestep_range [0, 0.8] nothing is trained that is not used.
        sample_every_n_epochs: sample and score at the validations of every n-th epoch, and at the last one.
        clip_skip: layer of the text encoder that gives the text embeddings, counted from the end as kohya counts; 1
            is the last; 2, the one before, suits many anime models.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them: much less
            memory, about a third more time, the same gradients.
        compile: compile the UNet for training steps (torch.compile); the first step takes minutes, the others less
            time; losses differ in the last bits.
        base_dtype: type of the frozen base's weights; bfloat16 halves their memory, and skill is then against the base
            in bfloat16; the LoRA and its optimiser stay in float32.
    """

    def __init__(
        self,
        base: str = "mini",
        rank: int = 16,
        alpha: float | None = None,
        lora_dropout: float = 0.0,
        caption_dropout: float = 0.1,
        target_modules: list[str] = ["to_q", "to_k", "to_v", "to_out.0"],  # noqa: B006
        lora: LoraOptions = LoraOptions(),
        text_encoder: TextEncoderLoRA = TextEncoderLoRA(),
        init_from: str | None = None,
        lora_plus_ratio: float | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1.0e-4, weight_decay=1.0e-2),
        lr_scheduler: LRSchedulerCallable | None = None,
        ema_decay: float | None = None,
        keep: Rule = "balanced",
        keep_share: float = 0.9,
        objective: Objective = Objective(),
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        start: float = 0.0,
        sample_every_n_epochs: int = 1,
        clip_skip: int = 1,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        base_dtype: BaseDType = "float32",
    ) -> None:
        super().__init__()
        groups = {"objective": objective, "lora": lora, "text_encoder": text_encoder}
        made = {"optimizer": settings_of(optimizer), "lr_scheduler": settings_of(lr_scheduler)}
        self.save_hyperparameters(ignore=[*groups, *made])
        made |= {name: dataclasses.asdict(one) for name, one in groups.items()}
        self.save_hyperparameters(made)  # plain values in checkpoints
        self.strict_loading = False  # checkpoints hold the adapter only
        self.base = base
        counts = {"num_inference_steps": num_inference_steps, "sample_every_n_epochs": sample_every_n_epochs}
        if low := [name for name, count in counts.items() if count is not None and count < 1]:
            raise InputError(f"{low[0]} is {counts[low[0]]}; it must be at least 1")
        if not 0 <= caption_dropout < 1:
            raise InputError(f"caption_dropout is {caption_dropout}; give a share from 0 to below 1")
        for options in groups.values():
            options.check()
        check_optimizer(optimizer, lr_scheduler, ema_decay)
        self.objective, self.drops = objective, bool(lora_dropout or lora.drops)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.kept = Kept(keep, keep_share)
        self.kept.check()
        folder = resolve_base(base)
        check_clip_skip(folder, clip_skip)
        for name, suited in zip(("num_inference_steps", "guidance_scale"), sampling_recipe(folder), strict=True):
            self.hparams[name] = suited if self.hparams[name] is None else self.hparams[name]
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self.scheduler = objective.schedule(own_scheduler(folder, self.hparams.num_inference_steps))
        self.unet = load_unet(folder)
        inject_lora(self.unet, rank, alpha, lora_dropout, target_modules, seed=self.seed, options=lora)
        cast_frozen(self.unet, base_dtype)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train()  # Lightning keeps modes as it finds them, and in eval mode there is no LoRA dropout
        self.text_encoder = trained_text_encoder(folder, text_encoder, lora, lora_dropout, clip_skip, self.seed)
        self.continued = continue_from(init_from, named_adapters(self.unet, self.text_encoder))
        self.scaling_factor = read_config(folder, "vae").get("scaling_factor", 0.18215)  # SD 1.5 does not state it
        self.metrics: list[Metric] = []
        self._base_losses: dict[int, Tensor] = {}  # by row of the held-out pictures
        self._held_out: list[dict] = []
        self._samples = True  # whether this validation draws
        recipe = self.hparams.num_inference_steps, self.hparams.guidance_scale
        self.sampler = Sampler(folder, self.scheduler, *recipe, begins=start)
        self.watch = Watch(self, base, compile)
        self.average = Average(adapter_parameters(self), ema_decay)
        self._optimizer()  # whatever is wrong with it is said before anything is encoded

    def setup(self, stage: str) -> None:
        """Forget what was measured on other data."""
        del stage
        self._base_losses.clear()
        self.sampler.forget()
        same_precision_everywhere()
        self.continued.compare_trigger(getattr(self.trainer.datamodule, "trigger", ""))

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Loss of the predicted noise (`Objective`), at timesteps and noise keyed by (seed, epoch, sample)."""
        keys = [(self.seed, self.current_epoch, row) for row in batch["row"]]
        if self.drops:  # dropout draws from the global generator; so masks resume and differ by process
            torch.manual_seed(seed_of("lora_dropout", self.seed, self.current_epoch, batch_idx, self.global_rank))
        latents = self._latents(batch, [("posterior", *key) for key in keys])
        dropped = noise.uniform([("caption", *key) for key in keys]).to(self.device) < self.hparams.caption_dropout
        given = self._given(batch).replaced(dropped, self._given(batch, "empty_"))
        losses = self.watch.losses(self.objective, batch, latents, keys, given)
        loss = (losses * batch["weight"] if "weight" in batch else losses).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(keys))
        return loss

    def _given(self, batch: dict, prefix: str = "") -> Conditioning:
        """Return the conditioning of a batch: cached, or by the text encoder that is trained."""
        of_batch = Conditioning.of_batch if self.text_encoder is None else self.text_encoder.of_batch
        return of_batch(batch, prefix)

    def _latents(self, batch: dict, keys: list[tuple]) -> Tensor:
        """Draw from the autoencoder's posterior, scaled as the UNet expects."""
        draw = noise.normal(keys, batch["mean"].shape[1:]).to(self.device)
        return (batch["mean"] + batch["std"] * draw) * self.scaling_factor

    def validation_step(self, batch: dict, batch_idx: int, dataloader_idx: int = 0) -> SampleBatch | None:
        """Measure held-out latents (loader 0) or sample prompts (loader 1)."""
        del batch_idx
        if dataloader_idx == 1:
            return self.sampler.draw(self.unet, batch, self.text_encoder) if self._samples else None
        if any(row not in self._base_losses for row in batch["row"]):
            with adapter_disabled(self):
                self._base_losses |= dict(zip(batch["row"], self._bank_losses(batch), strict=True))
        base_losses = torch.stack([self._base_losses[row] for row in batch["row"]])
        losses, own = base_losses.clone(), bank_stages([0.0, self.hparams.start])[1]
        losses[:, own] = self._bank_losses(batch, own)
        self._held_out += [
            {"row": row, "loss": loss, "base_loss": base_loss}
            for row, loss, base_loss in zip(batch["row"], losses.mean(1), base_losses.mean(1), strict=True)
        ]
        return None

    def _sampling_is_due(self) -> bool:
        trainer, epoch, every = self.trainer, self.current_epoch + 1, self.hparams.sample_every_n_epochs
        if trainer.state.fn != "fit" or epoch % every == 0:
            return True
        return trainer.should_stop or epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps

    def _bank_losses(self, batch: dict, places: Sequence[int] = range(len(BANK_TIMESTEPS))) -> Tensor:
        """Return each held-out picture's loss at these of the bank's timesteps, float32 (B, len(places))."""
        latents = batch["mean"] * self.scaling_factor
        return self.watch.bank_losses(self.global_step, batch, latents, self._given(batch), places).cpu()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a step of what is not a number."""
        self.watch.check_step(self.global_step + 1, self.trainer.precision_plugin)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Add the adapter to its average after each step, before callbacks save it."""
        super().optimizer_step(*args, **kwargs)
        self.average.update()

    def on_validation_start(self) -> None:
        """Validate the average, if there is one; callbacks that save afterwards save it, too."""
        self.watch.check_weights(self.global_step, self.trainer.precision_plugin)
        self.average.show()
        self._samples = self._sampling_is_due()  # once, for Ctrl-C may change it while pictures are drawn

    def on_validation_end(self) -> None:
        """Go on with the adapter itself; callbacks come before."""
        self.average.hide()

    def on_validation_epoch_end(self) -> None:
        """Log held-out loss and skill against the base, over the pictures of all processes, and what is kept."""
        rows, self._held_out = gather_rows(self._held_out, key="row"), []
        self.metrics = self._measured(rows) if rows else []
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            sampled = self.trainer.callback_metrics if self._samples else {}
            content = content_of(*(sampled.get(f"val/clip_score{which}") for which in ("", "_base", "_real")))
            skill = self.metrics[0].value if self.metrics else None
            kept = self.kept.offer(self.current_epoch, self.global_step, skill, content)
            self.log("val/kept_step", float(kept))

    def _measured(self, rows: list[dict]) -> list[Metric]:
        """Log what was measured of the held-out pictures, and return the skill."""
        skill, loss, base_loss = measured_skill(rows, self.current_epoch)
        self.log_dict({"val/loss": loss, "val/skill": skill.value}, prog_bar=True)
        self.log("val/base_loss", base_loss)
        self.log_dict({"val/skill_ci_low": skill.ci_low, "val/skill_ci_high": skill.ci_high})
        return [skill]

    def configure_optimizers(self) -> torch.optim.Optimizer | dict:
        """Return the optimiser of the adapter alone, with its schedule."""
        steps = self.trainer.estimated_stepping_batches if self.lr_scheduler else float("inf")
        return with_schedule(self.average.follow(self._optimizer()), self.lr_scheduler, steps)

    def _optimizer(self) -> torch.optim.Optimizer:
        rates = self.hparams.lora_plus_ratio, self.hparams.text_encoder["learning_rate"]
        return optimizer_of(self.optimizer, self.unet, self.text_encoder, *rates)

    def adapter_layers(self) -> dict[str, Layer]:
        """Return a copy of the adapter's tensors, layer by layer; of its average, if there is one; all are numbers."""
        self.watch.check_weights(self.global_step)
        with self.average.shown():
            return trained_layers(named_adapters(self.unet, self.text_encoder))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep only the adapter, as the base is loaded from its own folder, its average, and what is kept."""
        checkpoint["kept"] = dataclasses.asdict(self.kept)
        with self.average.shown(False):
            checkpoint["state_dict"] = adapter_state(self)
        checkpoint["average"] = self.average.state_dict()
        check_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Refuse a checkpoint with other layers, which `strict_loading = False` would load in part.

        Raises:
            InputError: for other layers, or for resuming from a checkpoint that does not say what is kept.
        """
        check_state(self, checkpoint["state_dict"])
        known = "skill" in checkpoint.get("kept", {})
        if not known and self.trainer.state.fn == "fit":
            raise InputError(
                "the checkpoint is of an older version and does not say which adapter is kept; train again without "
                "--ckpt_path"
            )
        if known:
            self.kept = Kept(**checkpoint["kept"] | {"rule": self.kept.rule, "share": self.kept.share})
        self.average.load_state_dict(checkpoint.get("average"))
