"""Data records shared between stages, and the one error type shown to users."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # worker processes that only read images need no torch
    from torch import Tensor


class InputError(ValueError):
    """Invalid user input; the message says in one sentence what is wrong and what to do."""

    @classmethod
    def within(cls, error: BaseException) -> InputError:
        """Return the InputError in an exception's cause chain; re-raise any other error."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, cls):
                return cause
            cause = cause.__cause__
        raise error


def on_one_line(text: str) -> str:
    """Escape what is not printable: line breaks, what a terminal would obey, bytes of names that are not UTF-8."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shown(name: object) -> str:
    """Return a name as a message can show it: on one line, not longer than 200 letters."""
    text = on_one_line(str(name))
    return text if len(text) <= 200 else f"{text[:200]}..."


def some(names: Iterable[str]) -> str:
    """Shorten a list for an error message to its first three, and the number of further ones; on one line."""
    names = [shown(name) for name in names]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more


@dataclass(frozen=True, slots=True)
class Picture:
    """One captioned image on disk. Kept to about 0.3 kB, since sets may be large; a Path alone takes more.

    Attributes:
        folder: folder that holds the file.
        name: file name within the folder.
        text: original caption, without trigger word.
        sha256: hash of the file's bytes; the cache key.
        group: unit of the train/held-out split; shared by near-duplicates, otherwise equal to `sha256`.
        size: width and height in pixels.
        more_texts: further captions; training shows one of them all at a time.
        repeats: how often it is shown per epoch; multiplied by those of the data module.
    """

    folder: Path
    name: str
    text: str
    sha256: str
    group: str
    size: tuple[int, int]
    more_texts: tuple[str, ...] = ()
    repeats: int = 1

    @property
    def path(self) -> Path:
        """Path of the image file."""
        return self.folder / self.name

    @property
    def texts(self) -> tuple[str, ...]:
        """All captions, without trigger word."""
        return self.text, *self.more_texts


@dataclass(frozen=True)
class SampleBatch:
    """Samples drawn with the adapter, and the base model's samples for the same contents and seeds.

    Attributes:
        index: position among all samples, int (B,).
        places: position of each sample's prompt among all prompts.
        prompts: full prompts with trigger word.
        contents: the prompts without trigger and style words.
        seeds: seed of each image's initial noise.
        images: uint8 (B, 3, H, W), sampled with the adapter.
        base_images: uint8 (B, 3, H, W), sampled without any adapter from the content prompt.
    """

    index: list[int]
    places: list[int]
    prompts: list[str]
    contents: list[str]
    seeds: list[int]
    images: Tensor
    base_images: Tensor


@dataclass(frozen=True)
class Estimate:
    """A point estimate with a 95 % confidence interval.

    Attributes:
        value: point estimate.
        ci_low: lower end of the 95 % confidence interval.
        ci_high: upper end of the interval.
        n: number of independent units (sample size).
    """

    value: float
    ci_low: float
    ci_high: float
    n: int


class Quantity(NamedTuple):
    """What was measured, regardless of on which images. Its string form is for display and never parsed.

    Attributes:
        measure: such as `kid`, see `stylelora.metrics.measure`.
        judge: name of the network used, since values from different networks are not comparable; None: no network.
        style: style whose images or scale it refers to; None: no particular style.
        at: anything else the value depends on: a timestep, or image counts.
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
        """Read the quantity from a record; other keys are ignored."""
        return cls(record["measure"], record["judge"], record["style"], tuple(record["at"]))


@dataclass(frozen=True)
class Metric(Estimate):
    """A measured value with its confidence interval and the quantity it estimates.

    Attributes:
        quantity: what was measured.
        higher_is_better: whether larger values are better.
        condition: test condition whose images or losses were measured; None: the adapter being trained.
    """

    quantity: Quantity
    higher_is_better: bool
    condition: str | None = None

    def __str__(self) -> str:
        return f"{self.condition}: {self.quantity}" if self.condition else str(self.quantity)

    def as_record(self) -> dict:
        """Return a flat, JSON-serialisable dict; infinite interval ends become null."""
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
    """Return the first metric that matches a measure, a condition and fields of its quantity; None if there is none.

    Args:
        metrics: metrics to search.
        measure: name such as `clip_score`.
        condition: test condition; None: the adapter being trained.
        names: required values of `judge`, `style` or `at`; fields not given match anything.
    """
    for metric in metrics:
        if (metric.quantity.measure, metric.condition) == (measure, condition):
            if all(getattr(metric.quantity, name) == value for name, value in names.items()):
                return metric
    return None


@dataclass(frozen=True)
class Endpoint:
    """Result of one hypothesis test that was declared in advance.

    Attributes:
        condition: name of the test condition.
        quantity: quantity tested against 0.
        difference: observed difference; None: it could not be measured, so it was not tested and adjusts no other.
        p_value: probability of a difference at least this large under the null hypothesis; None: not tested.
        p_holm: p-value adjusted for multiple testing (Holm 1979); None: not tested.
    """

    condition: str
    quantity: Quantity
    difference: float | None
    p_value: float | None
    p_holm: float | None

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
