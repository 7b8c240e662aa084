"""Blends of adapters, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stylelora.lora.blend import blend
from stylelora.lora.factors import Factors
from stylelora.lora.read import Adapter

if TYPE_CHECKING:
    from stylelora.diffusion.conditions import Condition

KEPT_BYTES = 4 * 2**30
T = TypeVar("T")


class Blends:
    """Cache of blends, so that each is computed once for all batches and conditions that use it.

    Args:
        adapters: adapters of one base.
        limit: size of the cache in bytes; blends beyond it are computed again for every batch.
    """

    def __init__(self, adapters: Sequence[Adapter], limit: int = KEPT_BYTES) -> None:
        self.adapters = list(adapters)
        self._left = limit
        self._kept: dict[tuple, Any] = {}

    def updates(self, condition: Condition) -> dict[str, Factors]:
        """Return the blended update of each layer, for a method in weight space; none for the base.

        Raises:
            InputError: as `blend`.
        """
        mix, used = condition.mix(self.adapters)
        if not used:
            return {}
        return self.once(condition, lambda: blend(used, mix.weights, condition.method, condition.options), _bytes)

    def once(self, condition: Condition, make: Callable[[], T], size: Callable[[T], int] = lambda _: 0) -> T:
        """Return the result of `make` for a condition's method, weights and options, from the cache if it is there.

        Args:
            condition: its steps, guidance, triggers and prompts do not affect the result.
            make: computes the result.
            size: returns the size of a result in bytes.
        """
        key = (condition.method, condition.mix(self.adapters)[0], repr(condition.options))
        if key in self._kept:
            return self._kept[key]
        made = make()
        if (needed := size(made)) <= self._left:
            self._left -= needed
            self._kept[key] = made
        return made


def _bytes(updates: dict[str, Factors]) -> int:
    return sum(update.up.nbytes + update.down.nbytes for update in updates.values())
