"""Prompts to sample."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as L
from torch.utils.data import DataLoader

from datamodules.batches import ShareSampler
from stylelora.data.captions import read_prompts
from stylelora.data.styles import PROMPTS
from stylelora.records import InputError


class Prompts(L.LightningDataModule):
    """Prompts without trigger words, each with one or more seeds.

    Args:
        prompts: prompts without trigger words; default: eight built-in prompts.
        file: text file with one prompt per line, instead of `prompts`.
        samples_per_prompt: pictures per prompt; their seeds are 0, 1, ...
        batch_size: pictures sampled at once.

    Raises:
        InputError: if there are no prompts, or both a list and a file.
    """

    def __init__(
        self,
        prompts: list[str] | None = None,
        file: str | None = None,
        samples_per_prompt: int = 1,
        batch_size: int = 8,
    ) -> None:
        super().__init__()
        if prompts is not None and file is not None:
            raise InputError("give data.prompts or data.file, not both")
        if file is not None:
            prompts = read_prompts(Path(file))
        self.prompts = list(PROMPTS if prompts is None else prompts)
        self.samples_per_prompt, self.batch_size = samples_per_prompt, batch_size
        if not self.prompts or samples_per_prompt < 1 or batch_size < 1:
            raise InputError(
                "there is nothing to sample: data needs at least one prompt, samples_per_prompt 1 and batch_size 1"
            )

    def predict_dataloader(self) -> DataLoader:
        """Return batches of `index`, `content` and `seed`, lists; each process gets its share.

        Raises:
            InputError: if there are fewer pictures than processes.
        """
        count, world = len(self.prompts) * self.samples_per_prompt, self.trainer.world_size
        if count < world:
            raise InputError(f"{count} pictures for {world} devices; give more prompts or fewer devices")

        def collate(rows: list[int]) -> dict:
            contents, seeds = zip(*(divmod(row, self.samples_per_prompt) for row in rows), strict=True)
            return {"index": rows, "content": [self.prompts[i] for i in contents], "seed": list(seeds)}

        sampler = ShareSampler(count, world, self.trainer.global_rank)
        return DataLoader(range(count), batch_size=self.batch_size, sampler=sampler, collate_fn=collate)
