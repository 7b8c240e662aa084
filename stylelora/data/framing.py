"""To what size each picture is brought, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stylelora.data.buckets import Size, choose_buckets
from stylelora.data.cache import View
from stylelora.data.images import check_interpolation
from stylelora.records import InputError


@dataclass(frozen=True)
class Framing:
    """How pictures are scaled and cropped.

    Attributes:
        resolution: side in pixels of the square that pictures are brought to.
        interpolation: one of `images.INTERPOLATIONS`.
        buckets: bring each picture to the size nearest to its shape, of about the square's area.
        no_upscale: enlarge no picture; one that does not fill its bucket gets a smaller size.
        source_size: side in pixels to which pictures of the training set are reduced first; None: they are not.
        upscale_interpolation: how they are enlarged again.

    Raises:
        InputError: if options are unknown or do not go together.
    """

    resolution: int
    interpolation: str = "lanczos"
    buckets: bool = False
    no_upscale: bool = False
    source_size: int | None = None
    upscale_interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        check_interpolation(self.interpolation)
        check_interpolation(self.upscale_interpolation)
        source, resolution = self.source_size, self.resolution
        if self.no_upscale and not self.buckets:
            raise InputError("no_upscale needs buckets of several sizes; turn buckets on")
        if source is None and self.upscale_interpolation != "bicubic":
            raise InputError("upscale_interpolation has no effect without source_size; give both or neither")
        if source is not None and self.buckets:
            raise InputError("source_size makes pictures square, which buckets would not; turn one of them off")
        if source is not None and not 1 <= source <= resolution:
            raise InputError(f"source_size is {source}; it must be at least 1 and at most the resolution, {resolution}")
        if source is not None and self.upscale_interpolation == "nearest" and resolution % source:
            raise InputError(
                f"resolution {resolution} is no multiple of source_size {source}, which nearest needs; choose another"
            )

    @property
    def square(self) -> Size:
        """Return the size of pictures without buckets, and of samples."""
        return self.resolution, self.resolution

    def sizes(self, pictures: Sequence[Size], step: int) -> list[Size]:
        """Return to what size each picture is brought.

        Args:
            pictures: their own sizes.
            step: what sides are a multiple of.
        """
        if self.buckets:
            return choose_buckets(pictures, self.resolution, step, self.no_upscale)
        return [self.square] * len(pictures)

    def view(self, size: Size, trained: bool = False, flip: bool = False) -> View:
        """Return how a picture is shown.

        Args:
            size: what it is brought to.
            trained: whether it is of the training set, which alone is reduced to `source_size`.
            flip: whether it is mirrored.
        """
        if trained and self.source_size is not None:
            return View(size, self.upscale_interpolation, self.source_size, flip)
        return View(size, self.interpolation, flip=flip)
