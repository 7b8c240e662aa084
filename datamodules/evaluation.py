"""Prompts to be judged by, and real pictures of the styles to judge them with."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.base import StyleDataModule
from datamodules.prompts import Prompts
from datamodules.sampler import ShareSampler, batches_of
from stylelora.data.images import to_tensor
from stylelora.data.reading import read_picture
from stylelora.records import InputError, Picture


class Evaluation(Prompts):
    """Contents of pictures, and the training and held-out pictures of styles, divided as they were for training.

    Args:
        styles: data modules as the adapters were trained with; each goes by the name of its style.
        prompts: contents without trigger words; left out, as `file`: the captions of all held-out pictures, once each.
        file: text file with one content per line, instead of `prompts`.
        samples_per_prompt: pictures per prompt, with seeds 0, 1, ...
        batch_size: pictures made at once.

    Raises:
        InputError: if there are no styles or two of one name, or as `Prompts`.
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
            raise InputError(f"give styles with different names, not {', '.join(names) or 'none'}")
        self.own_prompts = prompts is None and file is None
        super().__init__([""] if self.own_prompts else prompts, file, samples_per_prompt, batch_size)
        self.styles = dict(zip(names, styles, strict=True))

    def prepare_data(self) -> None:
        """Find the pictures, in one process only; everything that is wrong with a folder is said here."""
        for style in self.styles.values():
            style.dataset.scan()

    def setup(self, stage: str) -> None:
        """Take over what the first process found."""
        del stage
        for style in self.styles.values():
            style.dataset.share()
        if self.own_prompts:
            texts = (picture.text for style in self.styles.values() for picture in style.held_out)
            self.prompts = list(dict.fromkeys(texts))

    @property
    def dataset_hash(self) -> str:
        """Hash of prompts and held-out pictures, for the result file."""
        pictures = sorted(picture.sha256 for style in self.styles.values() for picture in style.held_out)
        return sha256("\n".join([*sorted(self.prompts), *pictures]).encode()).hexdigest()

    def images(self, name: str, side: str) -> list[Tensor]:
        """Return the pictures of a style as they were trained on, uint8 (3, H, W) each.

        Args:
            name: of the style.
            side: train or held_out.
        """
        return [self._image(name, picture) for picture in getattr(self.styles[name], side)]

    def _image(self, name: str, picture: Picture) -> Tensor:
        framing = self.styles[name].dataset.framing
        view = framing.view(framing.square)
        return to_tensor(view.of(read_picture(picture.path).image))

    def test_dataloader(self) -> list[DataLoader]:
        """Return two loaders: prompts as of `predict`, and held-out pictures of all styles.

        Batches of the second have `index`, `style`, `caption`, `sha256`, lists, and `image`, uint8 (B, 3, H, W), of one
        style each.
        """
        held_out = [(name, picture) for name, style in self.styles.items() for picture in style.held_out]
        batches = batches_of([name for name, _ in held_out], self.batch_size)

        def collate(rows: list[int]) -> dict:
            names, pictures = zip(*(held_out[row] for row in rows), strict=True)
            style = self.styles[names[0]]
            return {
                "index": rows,
                "style": list(names),
                "caption": [style.caption(picture.text) for picture in pictures],
                "sha256": [picture.sha256 for picture in pictures],
                "image": torch.stack([self._image(names[0], picture) for picture in pictures]),
            }

        sampler = ShareSampler(len(batches), self.trainer.world_size, self.trainer.global_rank)
        return [self.predict_dataloader(), DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)]
