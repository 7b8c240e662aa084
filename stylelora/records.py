"""The records that cross borders between stages, and the one error meant for a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # processes that only read pictures do without torch
    from torch import Tensor


class InputError(ValueError):
    """What the user gave cannot be used; the message is one sentence that says why and what to do."""

    @classmethod
    def within(cls, error: BaseException) -> InputError:
        """Return the InputError that an error is or was raised from; raise any other error again."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, cls):
                return cause
            cause = cause.__cause__
        raise error


@dataclass(frozen=True, slots=True)
class Picture:
    """One captioned picture on disk. There may be many: a third of a kilobyte each, for a Path alone takes more.

    Attributes:
        folder: where it is.
        name: of the file in the folder.
        text: caption as given, without trigger word.
        sha256: hash of the file's bytes; keys the cache.
        group: decides the split; near-duplicates share it, other pictures have their own `sha256`.
        size: width and height in pixels.
    """

    folder: Path
    name: str
    text: str
    sha256: str
    group: str
    size: tuple[int, int]

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.folder / self.name


@dataclass(frozen=True)
class SampleBatch:
    """Pictures made from prompts, with what the base makes of the same prompts and seeds.

    Attributes:
        index: position in the list of all samples, int (B,).
        prompts: full prompts with trigger word.
        contents: the same prompts without trigger and style words.
        seeds: seed of each picture's initial noise.
        images: uint8 (B, 3, H, W), made with the adapter.
        base_images: uint8 (B, 3, H, W), made with no adapter active, from the content prompt.
    """

    index: list[int]
    prompts: list[str]
    contents: list[str]
    seeds: list[int]
    images: Tensor
    base_images: Tensor


@dataclass(frozen=True)
class Metric:
    """A measured number with its uncertainty.

    Attributes:
        value: point estimate.
        ci_low: lower end of the 95 % interval.
        ci_high: upper end.
        n: number of independent units behind it.
        higher_is_better: direction.
    """

    value: float
    ci_low: float
    ci_high: float
    n: int
    higher_is_better: bool
