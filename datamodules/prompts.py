"""Prompts to sample."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as L
from torch.utils.data import DataLoader

from datamodules.batches import share_batches
from stylelora.base.load import resolve_base
from stylelora.base.token_limit import say_cut_off
from stylelora.data.prompt_checks import check_prompts
from stylelora.data.prompts import SamplePrompt, choose_prompts, prompt_batch
from stylelora.data.styles import PROMPTS
from stylelora.records import InputError


class Prompts(L.LightningDataModule):
    """Prompts without trigger words, each with one or more seeds.

    Args:
        prompts: prompts without trigger words, with the options of kohya's scripts if need be, as in
            "a cat --n blurry --w 512 --h 768 --d 42 --l 7.5 --s 28"; default: eight built-in prompts.
        file: file of prompts, instead of `prompts`; one on each line, or YAML, JSON or kohya's TOML.
        negative_prompt: what guidance leads away from; for prompts that have none of their own.
        samples_per_prompt: pictures per prompt; their seeds are 0, 1, ..., or count from the prompt's own.
        batch_size: pictures sampled at once.

    Raises:
        InputError: if there are no prompts, or both a list and a file.
    """

    def __init__(
        self,
        prompts: list[str] | None = None,
        file: str | None = None,
        negative_prompt: str = "",
        samples_per_prompt: int = 1,
        batch_size: int = 8,
    ) -> None:
        super().__init__()
        self.prompts: list[SamplePrompt] = choose_prompts(prompts, file, "file", negative_prompt, PROMPTS)
        self.samples_per_prompt, self.batch_size = samples_per_prompt, batch_size
        if not self.prompts or samples_per_prompt < 1 or batch_size < 1:
            raise InputError(
                "there is nothing to sample: data needs at least one prompt, samples_per_prompt 1 and batch_size 1"
            )

    def prepare_data(self) -> None:
        """Check the prompts, in one process only."""
        settings = self.trainer.lightning_module.hparams
        scales = [condition.guidance_scale for condition in self.trainer.lightning_module.conditions]
        check_prompts(self.prompts, resolve_base(settings.base), scales)
        self._say_cut_off([one.prompt for one in self.prompts])

    def _say_cut_off(self, contents: Sequence[str], captions: Sequence[str] = ()) -> None:
        """Say which captions, and which prompts of contents in the wording of any condition, are too long."""
        module = self.trainer.lightning_module
        prompts = [
            text
            for condition in module.conditions
            for content in contents
            for text in condition.prompts(module.adapters, content)
        ]
        negative = [one.negative_prompt or "" for one in self.prompts]
        say_cut_off(module.painter.tokenizer, [*prompts, *negative, *captions])

    def predict_dataloader(self) -> DataLoader:
        """Return batches as of `prompt_batch`; each process gets its share.

        Raises:
            InputError: if there are fewer pictures than processes.
        """
        count, world = len(self.prompts) * self.samples_per_prompt, self.trainer.world_size
        if count < world:
            raise InputError(f"{count} pictures for {world} devices; give more prompts or fewer devices")
        ways = [one.way for one in self.prompts for _ in range(self.samples_per_prompt)]

        def collate(rows: list[int]) -> dict:
            return prompt_batch(self.prompts, rows, self.samples_per_prompt)

        return share_batches(ways, self.batch_size, world, self.trainer.global_rank, collate)
