"""The judges of a test (networks that measure), loaded by their names in a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from stylelora.metrics.encoders import ClipEncoder, ImageEncoder, name_of
from stylelora.metrics.image_encoders import load_image_encoder
from stylelora.metrics.inception import Inception
from stylelora.records import InputError


def load_judges(
    names: Mapping[str, Sequence[str]], inception: str | None, device: torch.device
) -> dict[str, list[ImageEncoder | Inception]]:
    """Load the judges of each role.

    Args:
        names: judges of `content`, `style` and `distribution`: embedded ones, folders or hub ids.
        inception: TorchScript file of one more judge of distributions; None: none.
        device: where they run.

    Raises:
        InputError: if one cannot be loaded, or two have the same name, by which metrics are identified.
    """
    known: dict[str, str] = {}
    for judge in (judge for some in names.values() for judge in some):
        if (other := known.setdefault(name_of(judge), judge)) != judge:
            raise InputError(
                f"{other} and {judge} have the same name, by which metrics are told apart; rename one of the folders"
            )
    loaders = {"content": ClipEncoder, "style": load_image_encoder, "distribution": load_image_encoder}
    judges = {role: [load(name, device) for name in dict.fromkeys(names[role])] for role, load in loaders.items()}
    if inception is not None:
        judges["distribution"].append(Inception(inception, device))
    return judges
