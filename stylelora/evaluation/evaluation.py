"""From pictures of all arms to metrics with intervals, and tests of what was declared beforehand."""

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
NO_TRIGGER, AVERAGE, CUT = ", no trigger", ", pixel average", ", cut"  # behind the name of an arm


@dataclass
class ArmPictures:
    """The pictures of one arm, at the same places as those of all other arms.

    Attributes:
        name: of the arm.
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
        arms: with trigger words, the base first.
        untriggered: the same adapters for prompts without trigger words, by the name of the arm.
        metrics: "arm: metric" -> measured value.
        tests: primary endpoint -> difference, p and Holm's p.
        pairs: (arm, style, judge) -> number of the nearest training picture of each picture, and their cosine.
    """

    arms: list[ArmPictures]
    untriggered: dict[str, ArmPictures]
    metrics: dict[str, Metric] = field(default_factory=dict)
    tests: dict[str, dict] = field(default_factory=dict)
    pairs: dict[tuple[str, str, str], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def base(self) -> ArmPictures:
        """Return the base's pictures."""
        return self.arms[0]

    @property
    def prompts(self) -> list[str]:
        """Return what is taken for one unit: the content of each picture."""
        return self.base.contents

    def alone(self, style: str) -> ArmPictures | None:
        """Return the arm of the style's adapter alone at weight 1; None if there is none."""
        return next((arm for arm in self.arms if arm.weights == {style: 1.0}), None)

    def told(self) -> list[ArmPictures]:
        """Return the arms of the base alone that is told of a style in words."""
        return [arm for arm in self.arms[1:] if not arm.weights]

    def blends(self) -> list[tuple[ArmPictures, ArmPictures, ArmPictures]]:
        """Return each blend of two styles, neither subtracted, with the two alone."""
        blends = [arm for arm in self.arms if len(arm.weights) == 2 and min(arm.weights.values()) > 0]
        pairs = [(arm, *map(self.alone, arm.weights)) for arm in blends]
        return [pair for pair in pairs if None not in pair]

    def lines(self) -> list[dict]:
        """Return what was measured of each picture, a record for each, which `compare` reads."""
        return [
            {
                "arm": arm.name,
                "weights": arm.weights,
                "method": arm.method,
                "content": content,
                "seed": seed,
                "file_name": file,
                "values": {name: float(values[i]) for name, values in arm.values.items()},
            }
            for arm in self.arms
            for i, (content, seed, file) in enumerate(zip(arm.contents, arm.seeds, arm.files, strict=True))
        ]

    def add(self, arm: ArmPictures, name: str, values: ArrayLike, higher_is_better: bool = True) -> None:
        """Record a value of each picture, and their mean over prompts."""
        arm.values[name] = np.asarray(values, dtype=np.float64)
        metric = mean_interval(arm.values[name], self.prompts, higher_is_better=higher_is_better)
        self.metrics[f"{arm.name}: {name}"] = metric


def parts(metric: str) -> tuple[str, str | None, str | None]:
    """Return kind, judge and style of a metric such as `style[mini-style]/ink`, `clip_score[mini]` or `skill/ink`."""
    return re.fullmatch(r"([^\[/]+)(?:\[(.*)\])?(?:/(.+))?", metric).groups()


def arms_of(rows: Sequence[dict], styles: Mapping[str, str], images: Sequence[Tensor]) -> Evaluation:
    """Sort rows of pictures by arm.

    Args:
        rows: records of pictures, in the order of `index`.
        styles: name of an adapter -> name of its style.
        images: of the rows, uint8 (3, H, W).
    """
    found: dict[tuple[str, bool], list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault((row["arm"], row["trigger"]), []).append(number)
    arms = []
    for numbers in found.values():
        row = rows[numbers[0]]
        amounts = zip(row["adapters"], row["weights"], strict=True)
        arms.append(
            ArmPictures(
                name=row["arm"].removesuffix(NO_TRIGGER),
                weights={styles[name]: row["strength"] * weight for name, weight in amounts if weight},
                method=row["method"],
                images=torch.stack([images[i] for i in numbers]),
                contents=[rows[i]["content"] for i in numbers],
                prompts=[rows[i]["prompt"].replace(" AND ", ", ") for i in numbers],
                seeds=[rows[i]["seed"] for i in numbers],
                files=[rows[i]["file_name"] for i in numbers],
            )
        )
    triggered = [arm for arm, (_, trigger) in zip(arms, found, strict=True) if trigger]
    return Evaluation(triggered, {arm.name: arm for arm, (_, trigger) in zip(arms, found, strict=True) if not trigger})
