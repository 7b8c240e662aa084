"""Continue the training of a LoRA file, of any program that `read_lora` reads; kohya calls it network_weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from stylelora.lora.inject import ADAPTER
from stylelora.lora.lora_file import read_lora
from stylelora.records import InputError, some

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Continued:
    """The file that a training continues.

    Attributes:
        path: the file.
        trigger: the trigger word that it states; "" for none.
    """

    path: str
    trigger: str

    def compare_trigger(self, trigger: str) -> None:
        """Say so if the training has another trigger word."""
        if self.trigger and self.trigger != trigger:
            log.warning(
                "%s has the trigger word %r, but %r is trained; to keep it, give --data.trigger %r",
                *(self.path, self.trigger, trigger, self.trigger),
            )


def continue_from(path: str | None, modules: Mapping[str, nn.Module]) -> Continued:
    """Start at the layers of a LoRA file, at the strength that they have there whatever alpha is here.

    In a layer whose rank is lower in the file, the further ranks start with an update of 0, as usual. What only one of
    the two has is said.

    Args:
        path: LoRA file or PEFT folder; None: none, and nothing is changed.
        modules: layers with a new adapter from `inject_lora`, by their names in files; changed in place.

    Raises:
        InputError: as `read_lora`; or the file has a higher rank somewhere, other shapes, or no layer that is trained,
            or layers here start elsewhere (PiSSA).
    """
    if path is None:
        return Continued("", "")
    file = read_lora(path)
    if not (common := [name for name in modules if name in file.layers]):
        raise InputError(f"{path} has none of the layers that are trained here; it has {some(file.layers)}")
    if any(hasattr(module, "initial_A") for module in modules.values()):
        raise InputError(
            "init_from goes on from a LoRA, but lora.init_lora_weights pissa starts at the base's own weights; leave "
            "out one of them"
        )
    for name in common:
        given, module = file.layers[name], modules[name]
        down, up = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
        if (given.down[0].numel(), len(given.up)) != (down[0].numel(), len(up)):
            raise InputError(f"{path} was made for another base: {name} has other shapes there")
        if given.rank > len(down):
            raise InputError(
                f"{path} has rank {given.rank} in {name}, but rank {len(down)} is trained here; give {given.rank} as "
                "model.rank, or as its rank in model.lora.rank_pattern or model.text_encoder"
            )
        factor = given.alpha / given.rank / module.scaling[ADAPTER]
        with torch.no_grad():
            down[: given.rank] = given.down.float().reshape(-1, *down.shape[1:])
            up[:, : given.rank] = given.up.float().reshape(len(up), -1, *up.shape[2:]) * factor
    if lost := [name for name in file.layers if name not in modules]:
        log.warning("%s also has %s, which are not trained here and so are left out", path, some(lost))
    if new := [name for name in modules if name not in file.layers]:
        log.warning("%s does not have %s, which start with an update of 0", path, some(new))
    return Continued(path, file.metadata.get("trigger") or file.metadata.get("modelspec.trigger_phrase", ""))
