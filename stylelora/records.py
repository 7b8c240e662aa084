"""The records that cross borders between stages, and the one error meant for a person."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
class Estimate:
    """A number with its uncertainty.

    Attributes:
        value: point estimate.
        ci_low: lower end of the 95 % interval.
        ci_high: upper end.
        n: number of independent units behind it.
    """

    value: float
    ci_low: float
    ci_high: float
    n: int


class Quantity(NamedTuple):
    """What was measured, without of which pictures. Its text is for people; nothing takes it apart again.

    Attributes:
        measure: such as `kid`, see `stylelora.metrics.measure`.
        judge: name of the network that judged, for numbers of two networks cannot be compared; None: no network did.
        style: whose pictures or scale it refers to; None: no style in particular.
        at: what else its size depends on: a timestep, or numbers of pictures.
    """

    measure: str
    judge: str | None = None
    style: str | None = None
    at: tuple[int, ...] = ()

    def __str__(self) -> str:
        at = f"@{','.join(map(str, self.at))}" if self.at else ""
        return self.measure + at + (f"[{self.judge}]" if self.judge else "") + (f"/{self.style}" if self.style else "")

    def as_record(self) -> dict:
        """Return what JSON can hold."""
        return self._asdict() | {"at": list(self.at)}

    @classmethod
    def of_record(cls, record: dict) -> Quantity:
        """Return the quantity of a record, which may hold more."""
        return cls(record["measure"], record["judge"], record["style"], tuple(record["at"]))


@dataclass(frozen=True)
class Metric(Estimate):
    """A measured number that says what it is.

    Attributes:
        quantity: what was measured.
        higher_is_better: direction.
        condition: whose pictures or losses: name of a condition of a test; None: of the adapter that is trained.
    """

    quantity: Quantity
    higher_is_better: bool
    condition: str | None = None

    def __str__(self) -> str:
        return f"{self.condition}: {self.quantity}" if self.condition else str(self.quantity)

    def as_record(self) -> dict:
        """Return what JSON can hold, flat: an end of an interval that is infinite becomes null."""
        numbers = {name: getattr(self, name) for name in ("value", "ci_low", "ci_high", "n")}
        numbers = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        return (
            {"condition": self.condition}
            | self.quantity.as_record()
            | numbers
            | {"higher_is_better": self.higher_is_better}
        )

    @classmethod
    def of_record(cls, record: dict) -> Metric:
        """Return what `as_record` made a record of."""
        unknown = {"value": math.nan, "ci_low": -math.inf, "ci_high": math.inf}
        numbers = {name: unknown.get(name) if record[name] is None else record[name] for name in (*unknown, "n")}
        quantity = Quantity.of_record(record)
        return cls(
            **numbers, quantity=quantity, higher_is_better=record["higher_is_better"], condition=record["condition"]
        )


def find(metrics: Iterable[Metric], measure: str, condition: str | None = None, **names: object) -> Metric | None:
    """Return the first metric of a measure and condition whose quantity has these names; None if there is none.

    Args:
        metrics: to look in.
        measure: such as `clip_score`.
        condition: whose; None: of the adapter that is trained.
        names: `judge`, `style`, `at`, as far as they matter.
    """
    for metric in metrics:
        if (metric.quantity.measure, metric.condition) == (measure, condition):
            if all(getattr(metric.quantity, name) == value for name, value in names.items()):
                return metric
    return None


@dataclass(frozen=True)
class Endpoint:
    """The test of what was declared before looking.

    Attributes:
        condition: name of the condition.
        quantity: what was to differ from 0.
        difference: by how much it does; None: it could not be measured, and counts as not shown.
        p_value: chance of such a difference if there were none.
        p_holm: the same adjusted for the number of tests (Holm 1979).
    """

    condition: str
    quantity: Quantity
    difference: float | None
    p_value: float
    p_holm: float

    def __str__(self) -> str:
        return f"{self.condition}: {self.quantity}"

    def as_record(self) -> dict:
        """Return what JSON can hold, flat."""
        return (
            {"condition": self.condition}
            | self.quantity.as_record()
            | {"difference": self.difference, "p_value": self.p_value, "p_holm": self.p_holm}
        )

    @classmethod
    def of_record(cls, record: dict) -> Endpoint:
        """Return what `as_record` made a record of."""
        quantity = Quantity.of_record(record)
        return cls(record["condition"], quantity, record["difference"], record["p_value"], record["p_holm"])
