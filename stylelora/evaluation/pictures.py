"""The pictures to be measured: those that were made, by condition, and the real ones of each style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stylelora.metrics.encoders import CHUNK
from stylelora.runs.pictures import NO_TRIGGER, load_png


@dataclass(frozen=True)
class ConditionPictures:
    """The pictures of one condition, at the same places as those of all other conditions.

    Attributes:
        name: of the condition.
        weights: of the styles it was made with, strength included; empty for the base.
        method: of blending.
        contents: prompts without trigger words (N,).
        prompts: whole prompts (N,).
        seeds: of the initial noise (N,).
        files: of the pictures, relative to the run's folder (N,).
        root: the run's folder.
    """

    name: str
    weights: dict[str, float]
    method: str
    contents: list[str]
    prompts: list[str]
    seeds: list[int]
    files: list[str]
    root: Path

    @property
    def share(self) -> float:
        """Return the share of the first style in the weights of all."""
        return next(iter(self.weights.values())) / sum(self.weights.values())

    def batches(self) -> Iterator[Tensor]:
        """Read the pictures, uint8 (B, 3, H, W) at a time: all of a test at once would fill the memory."""
        for start in range(0, len(self.files), CHUNK):
            yield torch.stack([load_png(self.root / file) for file in self.files[start : start + CHUNK]])


@dataclass(frozen=True)
class StylePictures:
    """Real pictures of a style, brought to the sizes that they are trained at.

    Attributes:
        name: of the style.
        training: uint8 (3, H, W) each.
        held_out: uint8 (3, H, W) each, never trained on.
    """

    name: str
    training: Sequence[Tensor]
    held_out: Sequence[Tensor]


@dataclass(frozen=True)
class MadePictures:
    """All pictures that a test made.

    Attributes:
        conditions: with trigger words, the base first.
        untriggered: the same adapters for prompts without trigger words, by the name of the condition.
    """

    conditions: list[ConditionPictures]
    untriggered: dict[str, ConditionPictures]

    @classmethod
    def of_rows(cls, rows: Sequence[dict], styles: Mapping[str, str], root: Path) -> MadePictures:
        """Sort records of pictures by condition.

        Args:
            rows: as `pictures.jsonl` has them, in the order of `index`.
            styles: name of an adapter -> name of its style.
            root: the run's folder.
        """
        found: dict[tuple[str, bool], list[dict]] = {}
        for row in rows:
            found.setdefault((row["condition"].removesuffix(NO_TRIGGER), row["trigger"]), []).append(row)
        conditions = {key: _condition(key[0], some, styles, root) for key, some in found.items()}
        return cls(
            [condition for (_, trigger), condition in conditions.items() if trigger],
            {name: condition for (name, trigger), condition in conditions.items() if not trigger},
        )

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
        return next((one for one in self.conditions if one.weights == {style: 1.0}), None)

    def prompt_baselines(self) -> list[ConditionPictures]:
        """Return the conditions of the base alone that is told of a style in words."""
        return [one for one in self.conditions[1:] if not one.weights]

    def blends(self) -> list[tuple[ConditionPictures, ConditionPictures, ConditionPictures]]:
        """Return each blend of two styles, neither subtracted, with the two alone."""
        blends = [one for one in self.conditions if len(one.weights) == 2 and min(one.weights.values()) > 0]
        triples = [(one, *map(self.alone, one.weights)) for one in blends]
        return [triple for triple in triples if None not in triple]


def _condition(name: str, rows: Sequence[dict], styles: Mapping[str, str], root: Path) -> ConditionPictures:
    amounts = zip(rows[0]["adapters"], rows[0]["weights"], strict=True)
    return ConditionPictures(
        name=name,
        weights={styles[name]: rows[0]["strength"] * weight for name, weight in amounts if weight},
        method=rows[0]["method"],
        contents=[row["content"] for row in rows],
        prompts=[row["prompt"].replace(" AND ", ", ") for row in rows],
        seeds=[row["seed"] for row in rows],
        files=[row["file_name"] for row in rows],
        root=root,
    )
