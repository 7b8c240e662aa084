"""Numbers that are none, NaN or infinite: whatever has one is refused, before it is stored or learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stylelora.records import InputError, some


def bad_rows(values: Tensor) -> list[int]:
    """Return the rows, of float (B, ...), that hold NaN or infinity."""
    good = values.detach().float().reshape(len(values), -1).isfinite().all(1).tolist()  # one question to the device
    return [row for row, is_good in enumerate(good) if not is_good]


def check_numbers(values: Tensor, names: Sequence[str], what: str, advice: str) -> None:
    """Check that all rows are numbers.

    Args:
        values: float (B, ...).
        names: of the B rows.
        what: what the rows are, such as "the latent".
        advice: whose fault it is, and what to do.

    Raises:
        InputError: if not; names the rows.
    """
    if bad := bad_rows(values):
        raise InputError(f"{what} of {some(names[row] for row in bad)} is not a number (NaN or infinite); {advice}")


def bad_weights(module: nn.Module, trained: bool) -> list[str]:
    """Return the names of parameters that hold NaN or infinity.

    Args:
        module: module to look at.
        trained: look at the trained ones, or at the frozen ones.
    """
    named = [(name, value) for name, value in module.named_parameters() if value.requires_grad == trained]
    return [name for name, value in named if value.is_floating_point() and not bool(value.isfinite().all())]


def bad_places(value: Any, place: str = "") -> Iterator[str]:
    """Yield where, in dicts and lists of dicts and lists, there are tensors that hold NaN or infinity."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
            yield place
    elif isinstance(value, dict | list | tuple):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from bad_places(one, f"{place}.{name}".lstrip("."))
