"""From pictures of all conditions to metrics with intervals, and tests of what was declared beforehand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from stylelora.metrics.statistics import mean_interval
from stylelora.records import Metric

BASE = "base"
NO_TRIGGER, AVERAGE, CUT = ", no trigger", ", pixel average", ", cut"  # behind the name of a condition


@dataclass
class ConditionPictures:
    """The pictures of one condition, at the same places as those of all other conditions.

    Attributes:
        name: of the condition.
        weights: of the styles it was made with, strength included; empty for the base.
        method: of blending.
        images: uint8 (N, 3, H, W).
        contents: prompts without trigger words (N,).
        prompts: whole prompts (N,).
        seeds: of the initial noise (N,).
        files: of the pictures, relative to the run's folder (N,).
        values: measured of each picture, name -> float (N,).
    """

    name: str
    weights: dict[str, float]
    method: str
    images: Tensor
    contents: list[str]
    prompts: list[str]
    seeds: list[int]
    files: list[str]
    values: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Return the share of the first style in the weights of all."""
        return next(iter(self.weights.values())) / sum(self.weights.values())


@dataclass(frozen=True)
class Style:
    """Real pictures of a style.

    Attributes:
        name: of the style.
        training: uint8 (3, H, W) each.
        held_out: uint8 (3, H, W) each, never trained on.
    """

    name: str
    training: list[Tensor]
    held_out: list[Tensor]


@dataclass
class Evaluation:
    """What an evaluation found.

    Attributes:
        conditions: with trigger words, the base first.
        untriggered: the same adapters for prompts without trigger words, by the name of the condition.
        metrics: "condition: metric" -> measured value.
        tests: primary endpoint -> difference, p and Holm's p.
        pairs: (condition, style, judge) -> number of the nearest training picture of each picture, and their cosine.
    """

    conditions: list[ConditionPictures]
    untriggered: dict[str, ConditionPictures]
    metrics: dict[str, Metric] = field(default_factory=dict)
    tests: dict[str, dict] = field(default_factory=dict)
    pairs: dict[tuple[str, str, str], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def base(self) -> ConditionPictures:
        """Return the base's pictures."""
        return self.conditions[0]

    @property
    def prompts(self) -> list[str]:
        """Return what is taken for one unit: the content of each picture."""
        return self.base.contents

    def alone(self, style: str) -> ConditionPictures | None:
        """Return the condition of the style's adapter alone at weight 1; None if there is none."""
        return next((condition for condition in self.conditions if condition.weights == {style: 1.0}), None)

    def prompt_baselines(self) -> list[ConditionPictures]:
        """Return the conditions of the base alone that is told of a style in words."""
        return [condition for condition in self.conditions[1:] if not condition.weights]

    def blends(self) -> list[tuple[ConditionPictures, ConditionPictures, ConditionPictures]]:
        """Return each blend of two styles, neither subtracted, with the two alone."""
        blends = [
            condition
            for condition in self.conditions
            if len(condition.weights) == 2 and min(condition.weights.values()) > 0
        ]
        pairs = [(condition, *map(self.alone, condition.weights)) for condition in blends]
        return [pair for pair in pairs if None not in pair]

    def lines(self) -> list[dict]:
        """Return what was measured of each picture, a record for each, which `compare` reads."""
        return [
            {
                "condition": condition.name,
                "weights": condition.weights,
                "method": condition.method,
                "content": content,
                "seed": seed,
                "file_name": file,
                "values": {name: float(values[i]) for name, values in condition.values.items()},
            }
            for condition in self.conditions
            for i, (content, seed, file) in enumerate(
                zip(condition.contents, condition.seeds, condition.files, strict=True)
            )
        ]

    def add(self, condition: ConditionPictures, name: str, values: ArrayLike, higher_is_better: bool = True) -> None:
        """Record a value of each picture, and their mean over prompts."""
        condition.values[name] = np.asarray(values, dtype=np.float64)
        metric = mean_interval(condition.values[name], self.prompts, higher_is_better=higher_is_better)
        self.metrics[f"{condition.name}: {name}"] = metric


def parts(metric: str) -> tuple[str, str | None, str | None]:
    """Return kind, judge and style of a metric such as `style[mini-style]/ink`, `clip_score[mini]` or `skill/ink`."""
    return re.fullmatch(r"([^\[/]+)(?:\[(.*)\])?(?:/(.+))?", metric).groups()


def conditions_of(rows: Sequence[dict], styles: Mapping[str, str], images: Sequence[Tensor]) -> Evaluation:
    """Sort rows of pictures by condition.

    Args:
        rows: records of pictures, in the order of `index`.
        styles: name of an adapter -> name of its style.
        images: of the rows, uint8 (3, H, W).
    """
    found: dict[tuple[str, bool], list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault((row["condition"], row["trigger"]), []).append(number)
    conditions = []
    for numbers in found.values():
        row = rows[numbers[0]]
        amounts = zip(row["adapters"], row["weights"], strict=True)
        conditions.append(
            ConditionPictures(
                name=row["condition"].removesuffix(NO_TRIGGER),
                weights={styles[name]: row["strength"] * weight for name, weight in amounts if weight},
                method=row["method"],
                images=torch.stack([images[i] for i in numbers]),
                contents=[rows[i]["content"] for i in numbers],
                prompts=[rows[i]["prompt"].replace(" AND ", ", ") for i in numbers],
                seeds=[rows[i]["seed"] for i in numbers],
                files=[rows[i]["file_name"] for i in numbers],
            )
        )
    triggered = [condition for condition, (_, trigger) in zip(conditions, found, strict=True) if trigger]
    return Evaluation(
        triggered,
        {condition.name: condition for condition, (_, trigger) in zip(conditions, found, strict=True) if not trigger},
    )
