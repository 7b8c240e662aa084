"""The vectors of all pictures by one judge, each encoded once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from stylelora.data.images import to_pil
from stylelora.evaluation.pictures import MadePictures, StylePictures
from stylelora.metrics.controls import cut, pixel_average
from stylelora.metrics.encoders import CHUNK, ImageEncoder
from stylelora.metrics.inception import Inception

AVERAGE, CUT = ", pixel average", ", cut"  # suffixes to a blend's name: controls made from its two adapters' pictures


class Vectors:
    """The vectors of a test's pictures by one judge, float (N, D) each, encoded when first asked for.

    Args:
        judge: the encoder.
        pictures: the generated pictures of the test.
        styles: real pictures of the styles.
    """

    def __init__(
        self, judge: ImageEncoder | Inception, pictures: MadePictures, styles: Sequence[StylePictures]
    ) -> None:
        self.judge, self.name, self.pictures, self.styles = judge, judge.name, pictures, styles

    @cached_property
    def made(self) -> dict[str, Tensor]:
        """Vectors of each condition's pictures, by its name."""
        return {one.name: self._encode(one.batches()) for one in self.pictures.conditions}

    @cached_property
    def untriggered(self) -> dict[str, Tensor]:
        """Vectors of pictures of prompts without trigger words, by the name of the condition."""
        return {name: self._encode(one.batches()) for name, one in self.pictures.untriggered.items()}

    @cached_property
    def controls(self) -> dict[str, Tensor]:
        """Vectors of the controls of each blend, by its name with the suffix AVERAGE or CUT."""
        found = {}
        for blend, first, second in self.pictures.blends():

            def mixed(control: Callable, share: float = blend.share, pair: tuple = (first, second)) -> Iterator[Tensor]:
                batches = zip(*(one.batches() for one in pair), strict=True)
                return (control(*both, share) for both in batches)

            found[blend.name + AVERAGE] = self._encode(mixed(pixel_average))
            found[blend.name + CUT] = self._encode(mixed(cut))
        return found

    @cached_property
    def held_out(self) -> dict[str, Tensor]:
        """Vectors of each style's held-out pictures."""
        return {style.name: self._encode(in_batches(style.held_out)) for style in self.styles}

    @cached_property
    def training(self) -> dict[str, Tensor]:
        """Vectors of each style's training pictures."""
        return {style.name: self._encode(in_batches(style.training)) for style in self.styles}

    def _encode(self, batches: Iterable[Tensor | list]) -> Tensor:
        return torch.cat([self.judge.encode_images(batch) for batch in batches])


def in_batches(images: Sequence[Tensor]) -> Iterator[Tensor | list]:
    """Yield pictures uint8 (3, H, W) in batches, as a tensor, or as PIL images if their sizes differ."""
    for start in range(0, len(images), CHUNK):
        some = [images[i] for i in range(start, min(start + CHUNK, len(images)))]
        same = len({image.shape for image in some}) == 1
        yield torch.stack(some) if same else [to_pil(image) for image in some]


def scaled(vectors: Tensor) -> Tensor:
    """Return unit vectors times sqrt(D), so that entries are about 1, as KID's kernel expects; others unchanged."""
    lengths = vectors.norm(dim=1)
    return vectors * math.sqrt(vectors.shape[1]) if torch.allclose(lengths, torch.ones_like(lengths)) else vectors
