"""Data of a test: prompts to sample, and real pictures of the styles to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.base import StyleDataModule
from datamodules.batches import ShareSampler
from datamodules.prompts import Prompts
from stylelora.base.load import resolve_base, size_step
from stylelora.data.buckets import batches_of
from stylelora.data.dataset import Side, StyleDataset
from stylelora.data.prompt_checks import check_prompts
from stylelora.data.prompts import SamplePrompt
from stylelora.records import InputError


class EvaluationSet(Prompts):
    """Prompts, and the training and held-out pictures of styles, split as they were for training.

    Args:
        styles: data modules of the styles; with the options that the adapters were trained with.
        prompts: prompts without trigger words; default: captions of held-out pictures (each once, if there is no `file`
            either).
        file: file of prompts, instead of `prompts`; one on each line. A test samples all in one way, so prompts have no
            options of their own.
        samples_per_prompt: pictures per prompt; their seeds are 0, 1, ...
        batch_size: pictures sampled at once.

    Raises:
        InputError: if there are no styles, two of one name, or one without held-out pictures, if prompts have options,
            or as `Prompts`.
    """

    def __init__(
        self,
        styles: list[StyleDataModule],
        prompts: list[str] | None = None,
        file: str | None = None,
        samples_per_prompt: int = 2,
        batch_size: int = 16,
    ) -> None:
        names = [style.style_name for style in styles]
        if not names or len(set(names)) < len(names):
            raise InputError(f"give at least one style, and none twice; the styles are {', '.join(names) or 'none'}")
        if without := [name for name, style in zip(names, styles, strict=True) if not style.dataset.held_out_share]:
            raise InputError(f"{without[0]} holds out no pictures to compare with; give its held_out a share above 0")
        self.own_prompts = prompts is None and file is None
        super().__init__([""] if self.own_prompts else prompts, file, "", samples_per_prompt, batch_size)
        if own := [one for one in self.prompts if one != SamplePrompt(one.prompt, "")]:
            raise InputError(f"{own[0].where} has options, but a test samples all prompts in one way; remove them")
        self.styles = dict(zip(names, styles, strict=True))

    def prepare_data(self) -> None:
        """Find the pictures, in one process only; everything that is wrong with a folder is reported here."""
        base = resolve_base(self.trainer.lightning_module.hparams.base)
        check_prompts(self.prompts, base, [])
        for style in self.styles.values():
            style.dataset.scan()
            style.dataset.choose_sizes(size_step(base), style.batch_size * self.trainer.world_size)
        held_out = [(style, picture.text) for style in self.styles.values() for picture in style.held_out]
        contents = [text for _, text in held_out] if self.own_prompts else [one.prompt for one in self.prompts]
        self._say_cut_off(contents, [style.caption(text) for style, text in held_out])

    def setup(self, stage: str) -> None:
        """Take over what the first process found."""
        del stage
        for style in self.styles.values():
            style.dataset.share()
        if self.own_prompts:
            texts = (picture.text for style in self.styles.values() for picture in style.held_out)
            self.prompts = [SamplePrompt(text, "") for text in dict.fromkeys(texts)]

    @property
    def dataset_hash(self) -> str:
        """Hash of prompts and held-out pictures, for the result file."""
        pictures = sorted(picture.sha256 for style in self.styles.values() for picture in style.held_out)
        return sha256("\n".join([*sorted(one.prompt for one in self.prompts), *pictures]).encode()).hexdigest()

    def images(self, name: str, side: Side) -> Images:
        """Return the pictures of a style, at the sizes that training uses but not degraded.

        Args:
            name: of the style.
            side: train or held_out.
        """
        return Images(self.styles[name].dataset, side)

    def test_dataloader(self) -> list[DataLoader]:
        """Return two loaders: prompts as of `predict`, and held-out pictures of all styles.

        Batches of the second have `index`, `style`, `caption`, `sha256`, lists, and `image`, uint8 (B, 3, H, W), of one
        style and size each.
        """
        held_out = [(name, row) for name, style in self.styles.items() for row in range(len(style.held_out))]
        kinds = [(name, self.styles[name].dataset.sizes["held_out"][row]) for name, row in held_out]
        batches = batches_of(kinds, self.batch_size)

        def collate(numbers: list[int]) -> dict:
            names, rows = zip(*(held_out[number] for number in numbers), strict=True)
            style, images = self.styles[names[0]], self.images(names[0], "held_out")
            pictures = [style.held_out[row] for row in rows]
            return {
                "index": numbers,
                "style": list(names),
                "caption": [style.caption(picture.text) for picture in pictures],
                "sha256": [picture.sha256 for picture in pictures],
                "image": torch.stack([images[row] for row in rows]),
            }

        sampler = ShareSampler(len(batches), self.trainer.world_size, self.trainer.global_rank)
        return [self.predict_dataloader(), DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)]


class Images(Sequence):
    """One side of a style's pictures, uint8 (3, H, W) each, read when they are asked for.

    Args:
        dataset: with its pictures and their sizes.
        side: train or held_out.
    """

    def __init__(self, dataset: StyleDataset, side: Side) -> None:
        self.dataset, self.side = dataset, side

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(getattr(self.dataset, self.side))

    def __getitem__(self, index: int) -> Tensor:
        """Read a picture."""
        return self.dataset.image(self.side, index)
