"""Sampling with blended adapters."""

from __future__ import annotations

import dataclasses
import itertools
import logging

import lightning.pytorch as L
import torch

from stylelora.base.clip_skip import check_clip_skip
from stylelora.base.load import check_resolution, resolve_base, sampling_recipe
from stylelora.base.numbers import check_numbers
from stylelora.diffusion.conditions import CONTENT, AnyMethod, Condition, check_condition
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_losses, bank_stages
from stylelora.diffusion.painter import Painter, doubt_of_clip_skip
from stylelora.lora.blend import added
from stylelora.lora.mix import BlendOptions
from stylelora.lora.names import parts
from stylelora.lora.read import read_adapters
from stylelora.precision import same_precision_everywhere
from stylelora.records import InputError
from stylelora.texts import quoted

log = logging.getLogger(__name__)


class ComposedStyles(L.LightningModule):
    """Blends adapters by weight, and samples every prompt with every blend and method.

    Args:
        adapters: LoRA files, all for the same base; none: the base alone.
        weights: one weight per adapter, in one list per blend; such as [[1, 0], [0.6, 0.4]]; a single list is a single
            blend.
        base: base model: `mini`, a diffusers folder, a single-file checkpoint (.safetensors) or a hub id; the one that
            the adapters were trained on.
        methods: blending methods, such as sum, ties or composite; every blend is made with each.
            `stylelora/lora/compose.py` explains those that blend weights, `stylelora/diffusion/blend_while_sampling.py`
            those that blend predictions while sampling.
        strengths: factors on all weights; every blend is made with each.
        guidance_scales: guidance scales (CFG); how strongly pictures follow their prompt; every blend is made with
            each; default: depends on the base.
        options: options of the blending methods.
        prompt_baselines: prompts that name a style to the base alone; such as "a watercolor painting of {}", where {}
            is the content. This is what adapters have to beat.
        num_inference_steps: denoising steps of each picture; default: depends on the base.
        scheduler: sampler, as a class such as diffusers.EulerDiscreteScheduler; default: the base's own.
        resolution: side of the pictures in pixels; default: the base's own.
        triggers: trigger words, one per adapter, "" for none; default: those that the files state.
        starts: shares of the steps that are made before each adapter joins, one per adapter, 0 for none; 0.2 leaves the
            first fifth, where the layout is decided, to the base; default: those that the files state.
        unet_only: leave out the layers that adapters have for the text encoder.
        clip_skip: layer of the text encoder that gives the text embeddings, counted from the end as kohya counts; 1
            is the last; 2, the one before, suits many anime models; the one that the adapters were trained
            with.
    """

    def __init__(
        self,
        adapters: list[str],
        weights: list[list[float]] | list[float],
        base: str = "mini",
        methods: list[AnyMethod] = ["sum"],  # noqa: B006
        strengths: list[float] = [1.0],  # noqa: B006
        guidance_scales: list[float] | None = None,
        options: BlendOptions = BlendOptions(),
        prompt_baselines: list[str] = [],  # noqa: B006
        num_inference_steps: int | None = None,
        scheduler: str | None = None,
        resolution: int | None = None,
        triggers: list[str] | None = None,
        starts: list[float] | None = None,
        unet_only: bool = False,
        clip_skip: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        folder = resolve_base(base)
        check_clip_skip(folder, clip_skip)
        suited = sampling_recipe(folder)
        num_inference_steps, guidance_scales = (
            suited[0] if num_inference_steps is None else num_inference_steps,
            [suited[1]] if guidance_scales is None else guidance_scales,
        )
        if resolution is not None:
            check_resolution(folder, resolution)
        if weights and not isinstance(weights[0], list):
            weights = [weights]
        if not ((weights or not adapters) and methods and strengths and guidance_scales):
            raise InputError("give at least one list of weights, one method, one strength and one guidance scale")
        if other := [one for one in weights if len(one) != len(adapters)]:
            raise InputError(
                f"{len(adapters)} adapters but {len(other[0])} weights; give model.weights one list for each blend, "
                f"with one weight for each adapter"
            )
        if CONTENT in prompt_baselines:
            raise InputError(
                f"prompt_baselines contains {CONTENT} alone, which is the base itself; name a style in each, or "
                f"remove it"
            )
        self.adapters = read_adapters(adapters, unet_only, triggers, starts)
        if doubt := doubt_of_clip_skip(self.adapters, clip_skip):
            log.warning(doubt)
        nothing = (0.0,) * len(adapters)
        self.conditions = [
            Condition("sum", nothing, num_inference_steps, guidance_scale, prompt_template=text)
            for text in (CONTENT, *dict.fromkeys(prompt_baselines))
            for guidance_scale in guidance_scales
        ] + [
            Condition(method, tuple(amounts), num_inference_steps, guidance_scale, strength, options=options)
            for method, guidance_scale, strength, amounts in itertools.product(
                methods, guidance_scales, strengths, weights
            )
        ]
        for condition in self.conditions:
            check_condition(condition, self.adapters)
        self.painter = Painter(base, self.adapters, num_inference_steps, scheduler, resolution, clip_skip)
        self._tested = False

    def setup(self, stage: str) -> None:
        """For a test, add each adapter alone, to measure blends by, and all conditions without trigger words.

        Raises:
            InputError: if there are several guidance scales, and so several bases.
        """
        same_precision_everywhere()
        if stage != "test" or self._tested:
            return
        first, *others = self.conditions
        if self.hparams.guidance_scales is not None and len(self.hparams.guidance_scales) != 1:
            raise InputError(
                "a test compares with one base and so needs one guidance scale; give guidance_scales a single value"
            )
        ones = torch.eye(len(self.adapters)).tolist()
        alone = [dataclasses.replace(first, weights=tuple(one)) for one in ones]
        prompt_baselines = [condition for condition in others if condition.prompt_template != CONTENT]
        asked = [condition for condition in others if condition.mix(self.adapters)[1]]
        conditions = {self.painter.name(condition): condition for condition in (*alone, *asked)}.values()  # each once
        silent = [dataclasses.replace(condition, trigger=False) for condition in conditions]
        differ = [condition for condition in silent if self._prompts_differ(condition)]
        self.conditions = [first, *prompt_baselines, *conditions, *differ]
        self._tested = True

    def predict_step(self, batch: dict, batch_idx: int) -> list[dict]:
        """Sample all conditions from the same initial noise; steps and guidance of a prompt's own replace theirs.

        Returns:
            a row for each prompt and condition: `index` (place of the prompt, place of the condition), `content`,
            `prompt`, `negative_prompt`, `seed`, `condition` (its name), `trigger` (whether prompts have trigger words),
            `method`, `label` and `weights` before they are multiplied by `strength`, `num_inference_steps`,
            `guidance_scale`, `scheduler`, `options`, and `image`, uint8 (3, H, W).
        """
        del batch_idx
        return self.painter.pictures(self.conditions, batch, batch["seed"])

    def _prompts_differ(self, condition: Condition) -> bool:
        """Tell whether a condition's adapters have trigger words."""
        return condition.prompts(self.adapters, "") != dataclasses.replace(condition, trigger=True).prompts(
            self.adapters, ""
        )

    def test_step(self, batch: dict, batch_idx: int, dataloader_idx: int = 0) -> list[dict]:
        """Sample prompts (loader 0), or measure the loss on a style's held-out pictures (loader 1).

        Returns:
            rows as of `predict_step`; or `index`, `condition`, `style`, `sha256` and `losses`, at the bank's
            timesteps, of each held-out picture and those conditions that are one UNet: blended in weight space, with
            trigger words.
        """
        del batch_idx
        if dataloader_idx == 0:  # prompts share no noise, so that each is a unit of its own
            keys = [f"{content} {seed}" for content, seed in zip(batch["content"], batch["seed"], strict=True)]
            return self.painter.pictures(self.conditions, batch, keys)
        painter = self.painter
        pixels = batch["image"].to(self.device, painter.vae.dtype) / 127.5 - 1
        latents = painter.vae.encode(pixels).latent_dist.mean * painter.vae.config.scaling_factor
        base_captions, rows = painter.embed(batch["caption"], {}), []
        for place, condition in enumerate(self.conditions):
            if not condition.trigger or condition.prompt_template != CONTENT or not condition.is_one_unet:
                continue
            losses, starts = torch.zeros(len(latents), len(BANK_TIMESTEPS)), condition.starts(self.adapters)
            for begins, places in zip(starts, bank_stages(starts), strict=True):
                of_unet, of_text = parts(painter.blends.updates(condition.at(self.adapters, begins)))
                captions = painter.embed(batch["caption"], of_text) if of_text else base_captions
                with added(painter.unet, of_unet):
                    of = painter.unet, painter.scheduler, latents, batch["sha256"], captions
                    losses[:, places] = bank_losses(*of, places=places).cpu()
            at_fault = "the picture, the base or a LoRA is at fault: give others"
            name = painter.name(condition)
            check_numbers(losses, list(map(quoted, batch["caption"])), f"the loss ({name})", at_fault)
            for index, style, sha256, row in zip(batch["index"], batch["style"], batch["sha256"], losses, strict=True):
                measured = {"condition": name, "style": style, "sha256": sha256, "losses": row.tolist()}
                rows.append({"index": (index, place), **measured})
        return rows
