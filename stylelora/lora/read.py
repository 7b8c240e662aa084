"""Adapters: LoRA files as one update per layer of the UNet and of the text encoder, with their trigger words."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stylelora.lora.factors import Factors
from stylelora.lora.lora_file import read_lora, say
from stylelora.lora.names import parts
from stylelora.records import InputError

#: Note of a file that its adapter joins after a share of the sampler's steps.
START = "lora_start"
BASE = "base"  # name of the condition without adapters
NO_TRIGGER = ", no trigger"  # suffix of conditions whose prompts have no trigger words
_NAMELESS = ("adapter", "adapter_model", "pytorch_lora_weights")


@dataclass(frozen=True)
class Adapter:
    """A LoRA as one update per layer.

    Attributes:
        name: the file's, without suffix, or its folder's if the file's says nothing, as `adapter` does.
        layers: update of each layer by the layer's name; of a convolution over its unrolled kernel.
        inputs: shape of a layer's input weights: (n,), or (channels, height, width) of a convolution's kernel.
        sha256: of the file.
        metadata: metadata of the file's header; "trigger" if there is a trigger word.
    """

    name: str
    layers: dict[str, Factors]
    inputs: dict[str, tuple[int, ...]]
    sha256: str
    metadata: dict[str, str]

    @property
    def start(self) -> float:
        """Return the share of the sampler's steps that are made without the adapter, 0 to below 1."""
        return float(self.metadata.get(START, 0.0))

    @property
    def unet(self) -> dict[str, Factors]:
        """Return the updates of the UNet."""
        return parts(self.layers)[0]

    @property
    def text(self) -> dict[str, Factors]:
        """Return the updates of the text encoder."""
        return parts(self.layers)[1]


def read_adapter(
    path: Path | str, unet_only: bool = False, trigger: str | None = None, start: float | None = None
) -> Adapter:
    """Read a LoRA as fp32 updates with their scale folded in, with its trigger word.

    A foreign file's trigger word is `modelspec.trigger_phrase`, or the most frequent tag of its training.

    Args:
        path: as of `read_lora`.
        unet_only: leave out the layers of the text encoder, and say so.
        trigger: its trigger word, "" for none; None: what the file states.
        start: share of the sampler's steps that are made without it; None: what the file states, or 0.

    Raises:
        InputError: as `read_lora`; or nothing is left, or `start` is not 0 to below 1.
    """
    path = Path(path)
    file = read_lora(path)
    layers = file.layers
    if unet_only and (text := parts(layers)[1]):
        say(f"{path}: the {len(text)} layers of its text encoder are left out")
        if not (layers := parts(layers)[0]):
            raise InputError(f"{path} has layers of the text encoder only, and those of the UNet were asked for.")
    updates = {layer: one.update for layer, one in layers.items()}
    kernels = {layer: one.kernel for layer, one in layers.items()}
    notes = _with_trigger(file.metadata, path) if trigger is None else file.metadata | {"trigger": trigger}
    notes = notes if start is None else notes | {START: f"{start:g}"}
    check_start(notes.get(START, "0"), str(path))
    return Adapter(_name(path.resolve()), updates, kernels, file.sha256, notes)


def check_start(start: float | str, whose: str) -> None:
    """Check a share of the sampler's steps that are made without an adapter.

    Args:
        start: the share, or its text.
        whose: what states it, for the error.

    Raises:
        InputError: if it is not 0 to below 1.
    """
    with contextlib.suppress(ValueError):
        if 0 <= float(start) < 1:
            return
    raise InputError(f"{whose} has the start {start!r}; give a share of the steps, 0 to below 1")


def read_adapters(
    paths: Sequence[Path | str],
    unet_only: bool = False,
    triggers: Sequence[str] | None = None,
    starts: Sequence[float] | None = None,
) -> list[Adapter]:
    """Read LoRA files; if two have the same name, the folder's name is put in front.

    Raises:
        InputError: as `read_adapter`; or there is not one trigger word, or start, per file.
    """
    if triggers is not None and len(triggers) != len(paths):
        raise InputError(f'{len(paths)} adapters and {len(triggers)} triggers; give each adapter one, "" for none')
    if starts is not None and len(starts) != len(paths):
        raise InputError(f"{len(paths)} adapters and {len(starts)} starts; give each adapter one, 0 for the first step")
    own = zip(paths, triggers or [None] * len(paths), starts or [None] * len(paths), strict=True)
    adapters = [read_adapter(path, unet_only, word, start) for path, word, start in own]
    counts = Counter(adapter.name for adapter in adapters)
    named = []
    for adapter, path in zip(adapters, paths, strict=True):
        folder = Path(path).resolve().parent
        folder = folder.parent if folder.name == adapter.name else folder
        named.append(replace(adapter, name=f"{folder.name}/{adapter.name}") if counts[adapter.name] > 1 else adapter)
    return named


def distinct(triggers: Sequence[str]) -> list[str]:
    """Return the distinct trigger words; a merged file has those of its sources, joined by commas."""
    return list(dict.fromkeys(word.strip() for trigger in triggers for word in trigger.split(",")))


def described(names: Iterable[str], weights: Iterable[float]) -> str:
    """Describe a blend, such as `watercolor 0.6 + cartoon 0.4`, without adapters of weight 0."""
    return " + ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True) if weight)


def _name(path: Path) -> str:
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem in _NAMELESS else path.stem


def _with_trigger(notes: dict[str, str], path: Path) -> dict[str, str]:
    """Add the trigger word that a foreign file's training notes state, and say where it is from."""
    if notes.get("trigger"):
        return notes
    if phrase := notes.get("modelspec.trigger_phrase", "").strip():
        return notes | {"trigger": phrase}
    tags: Counter[str] = Counter()
    try:
        for counted in json.loads(notes.get("ss_tag_frequency", "{}")).values():
            tags.update({tag.strip(): n for tag, n in counted.items() if tag.strip() and isinstance(n, int)})
    except (ValueError, AttributeError, RecursionError):
        tags.clear()
    if not tags:
        say(f"{path} states no trigger word, so prompts get none; name one with the option triggers")
        return notes
    tag = tags.most_common(1)[0][0]
    say(f"{path} states no trigger word; {tag!r}, its most frequent tag, is taken; the option triggers names another")
    return notes | {"trigger": tag}
