"""Target size of each picture, and how it is resized and cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stylelora.data.buckets import Size, choose_buckets
from stylelora.data.cache import View
from stylelora.data.images import check_interpolation
from stylelora.records import InputError


@dataclass(frozen=True)
class Framing:
    """Resizing and cropping options.

    Attributes:
        resolution: side of the target square in pixels.
        interpolation: one of `images.INTERPOLATIONS`.
        buckets: use aspect-ratio buckets of about the square's area.
        no_upscale: never upscale; a picture that does not fill its bucket gets a smaller size.
        source_size: side in pixels to which training pictures are downscaled first; None: no downscaling.
        upscale_interpolation: interpolation for upscaling them again.

    Raises:
        InputError: if options are unknown or contradict each other.
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
        """Size of samples, and of pictures when buckets are off."""
        return self.resolution, self.resolution

    def sizes(self, pictures: Sequence[Size], step: int) -> list[Size]:
        """Return the target size of each picture.

        Args:
            pictures: original sizes.
            step: sides are multiples of this.
        """
        if self.buckets:
            return choose_buckets(pictures, self.resolution, step, self.no_upscale)
        return [self.square] * len(pictures)

    def view(self, size: Size, trained: bool = False, flip: bool = False) -> View:
        """Return how a picture is prepared for the VAE.

        Args:
            size: target size.
            trained: whether it is a training picture; only these are downscaled to `source_size`.
            flip: whether to mirror it.
        """
        if trained and self.source_size is not None:
            return View(size, self.upscale_interpolation, self.source_size, flip)
        return View(size, self.interpolation, flip=flip)
