"""The pictures to measure: generated ones by condition, and real ones by style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stylelora.lora.read import NO_TRIGGER
from stylelora.metrics.encoders import CHUNK
from stylelora.runs.pictures import load_png


@dataclass(frozen=True)
class ConditionPictures:
    """The pictures of one condition, in the same order as those of all other conditions.

    Attributes:
        name: name of the condition.
        weights: weights of its styles, strength included; empty for the base.
        method: blending method.
        contents: prompts without trigger words (N,).
        prompts: whole prompts (N,).
        seeds: seeds of the initial noise (N,).
        files: picture files, relative to the run's folder (N,).
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
        """Return the first style's share of the total weight."""
        return next(iter(self.weights.values())) / sum(self.weights.values())

    def batches(self) -> Iterator[Tensor]:
        """Read the pictures in batches, uint8 (B, 3, H, W); all of a test at once would not fit into memory."""
        for start in range(0, len(self.files), CHUNK):
            yield torch.stack([load_png(self.root / file) for file in self.files[start : start + CHUNK]])


@dataclass(frozen=True)
class StylePictures:
    """Real pictures of a style, resized as for training.

    Attributes:
        name: name of the style.
        training: uint8 (3, H, W) each.
        held_out: uint8 (3, H, W) each, never trained on.
    """

    name: str
    training: Sequence[Tensor]
    held_out: Sequence[Tensor]


@dataclass(frozen=True)
class MadePictures:
    """All pictures that a test generated.

    Attributes:
        conditions: with trigger words, the base first.
        untriggered: the same adapters with prompts without trigger words, by the name of the condition.
    """

    conditions: list[ConditionPictures]
    untriggered: dict[str, ConditionPictures]

    @classmethod
    def of_rows(cls, rows: Sequence[dict], styles: Mapping[str, str], root: Path) -> MadePictures:
        """Group records of pictures by condition.

        Args:
            rows: records of `pictures.jsonl`, in the order of `index`.
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
        """Return the statistical unit of each picture: its content."""
        return self.base.contents

    def alone(self, style: str) -> ConditionPictures | None:
        """Return the condition with the style's adapter alone at weight 1; None if there is none."""
        return next((one for one in self.conditions if one.weights == {style: 1.0}), None)

    def prompt_baselines(self) -> list[ConditionPictures]:
        """Return the prompt baselines: the base alone, with a style named in the prompt."""
        return [one for one in self.conditions[1:] if not one.weights]

    def blends(self) -> list[tuple[ConditionPictures, ConditionPictures, ConditionPictures]]:
        """Return each blend of two styles with positive weights, with the two adapters alone."""
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
