"""What a LoRA is trained with beyond rank and alpha: other ranks in some layers, another scale, start or dropout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stylelora.records import InputError

#: No layer of Stable Diffusion is wider.
MOST_RANK = 2**14


@dataclass(frozen=True)
class LoraOptions:
    """Options of the LoRA.

    Args:
        rank_pattern: other ranks for some layers, by the last parts of their names; such as {conv1: 8, conv2: 8}; where
            several match, the longest counts.
        alpha_pattern: other alphas for some layers, as in rank_pattern; a layer of another rank has its rank as alpha,
            unless it is named here or model.alpha is given.
        use_rslora: multiply the update by alpha / sqrt(rank), not alpha / rank (Kalajdzievski 2023).
        init_lora_weights: where training starts: default, with an update of 0; pissa, at the largest singular values of
            the base's weights (Meng et al. 2024), of which the file holds the change, at twice the rank.
        rank_dropout: probability of leaving out a rank of the LoRA while training, drawn for each picture, as in kohya;
            0 to below 1.
        module_dropout: probability of leaving out the LoRA of a layer while training, drawn for each step, as in kohya;
            0 to below 1.
    """

    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    init_lora_weights: Literal["default", "pissa"] = "default"
    rank_dropout: float = 0.0
    module_dropout: float = 0.0

    def check(self) -> None:
        """Check that options are within range and do not contradict one another.

        Raises:
            InputError: if not.
        """
        for key, rank in self.rank_pattern.items():
            if not 1 <= rank <= MOST_RANK:
                raise InputError(f"lora.rank_pattern gives {key} the rank {rank}; give 1 to {MOST_RANK}")
        for key, alpha in self.alpha_pattern.items():
            if not (alpha > 0 and math.isfinite(alpha)):
                raise InputError(f"lora.alpha_pattern gives {key} the alpha {alpha}; it must be a number above 0")
        for name in ("rank_dropout", "module_dropout"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise InputError(f"lora.{name} is {value}; give a probability from 0 to below 1")

    def check_beside(self, dropout: float, alpha: float | None = 1.0) -> None:
        """Check that options do not contradict those beside them: dropout on inputs, and alpha.

        Raises:
            InputError: if they do.
        """
        if self.use_rslora and alpha is None:
            raise InputError(
                "lora.use_rslora divides alpha by the root of the rank, so alpha cannot be the rank; give alpha a "
                "number, such as 4"
            )
        if self.init_lora_weights == "pissa" and (dropout or self.drops):
            raise InputError(
                "with lora.init_lora_weights pissa, dropout would leave out parts of the base itself; set "
                "model.lora_dropout, lora.rank_dropout and lora.module_dropout to 0"
            )

    @property
    def drops(self) -> bool:
        """Return whether anything is drawn at random while training."""
        return bool(self.rank_dropout or self.module_dropout)

    def plain(self) -> LoraOptions:
        """Return these options without patterns, which name layers of the UNet."""
        return dataclasses.replace(self, rank_pattern={}, alpha_pattern={})

    def ranks(self, names: Sequence[str], rank: int, alpha: float | None) -> dict[str, tuple[int, float]]:
        """Return the rank and the alpha of each layer.

        Args:
            names: full names of the layers that get a LoRA.
            rank: rank of the others.
            alpha: alpha of the others; None: a layer's rank.

        Raises:
            InputError: a pattern matches none of the layers.
        """
        found = {}
        for pattern in ("rank_pattern", "alpha_pattern"):
            if lost := [key for key in getattr(self, pattern) if not any(matches(name, key) for name in names)]:
                raise InputError(
                    f"lora.{pattern} names {lost[0]}, but no layer of that name gets a LoRA; add it to "
                    f"model.target_modules, or take it out"
                )
        for name in names:
            own = _longest(self.rank_pattern, name, rank)
            found[name] = own, float(_longest(self.alpha_pattern, name, own if alpha is None else alpha))
        return found


def matches(name: str, target: str) -> bool:
    """Return whether a module's name is a target, or ends with it as whole parts."""
    return f".{name}".endswith(f".{target}")


def untied(ranks: Iterable[tuple[int, float]]) -> str:
    """Describe scales where alpha is not the rank, such as `2 (alpha 16, rank 8)`; "" if there are none."""
    return ", ".join(
        f"{alpha / rank:g} (alpha {alpha:g}, rank {rank})" for rank, alpha in dict.fromkeys(ranks) if alpha != rank
    )


def _longest(pattern: Mapping[str, float], name: str, default: float) -> float:
    return pattern[max(found, key=len)] if (found := [key for key in pattern if matches(name, key)]) else default
