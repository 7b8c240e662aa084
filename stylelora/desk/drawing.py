"""Draws what the desk shows: one base in memory, pictures kept by their settings, a newer wish before an older one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from stylelora.base.load import resolve_base, sampling_recipe
from stylelora.base.token_limit import cut_offs
from stylelora.data.buckets import batches_of
from stylelora.data.prompt_checks import check_sizes, warnings_of
from stylelora.data.prompts import prompt_batch
from stylelora.data.styles import PROMPTS
from stylelora.desk.heard import heard
from stylelora.desk.mix import BATCH, MOST_ADAPTERS, Mix
from stylelora.diffusion.conditions import Condition
from stylelora.diffusion.painter import Painter, doubt_of_clip_skip
from stylelora.lora.blend import check_adapter
from stylelora.lora.read import Adapter, read_adapters
from stylelora.metrics.clip_score import clip_scores
from stylelora.metrics.encoders import ClipEncoder
from stylelora.precision import same_precision_everywhere
from stylelora.records import InputError

KEPT_BYTES = 2**28  # pictures
KEPT_SETS = 4  # sets of adapters in memory, whose files may be large
T = TypeVar("T")


class Superseded(Exception):
    """Somebody moved on before a picture was ready."""


class Desk:
    """Adapters on a shelf, a base, and the pictures that were drawn.

    Args:
        base: `mini`, a diffusers folder, a single-file checkpoint or a hub id.
        scorer: CLIP model that scores pictures; None: no scores.

    Raises:
        InputError: if the base or the scorer cannot be loaded.
    """

    def __init__(self, base: str, scorer: str | None = None) -> None:
        same_precision_everywhere()
        self.base = base
        self.steps, self.guidance_scale = sampling_recipe(resolve_base(base))
        self.shelf: dict[str, Path] = {}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.painter = Painter(base, [], self.steps).to(device).eval()
        self.encoder = None if scorer is None else ClipEncoder(scorer, device)
        self._drawing = threading.Lock()  # one network, whose weights a blend changes while it is drawn
        self._reading = threading.Lock()
        self._sets: OrderedDict[tuple, tuple[list[Adapter], list[str]]] = OrderedDict()
        self._columns: OrderedDict[tuple, list[dict]] = OrderedDict()
        self._taken: list[Adapter] | None = None
        self._begun: tuple[tuple, dict] = (), {}  # what the base predicted before adapters join, for the last settings

    def first_mix(self, chosen: Sequence[str]) -> Mix:
        """Return what is drawn of LoRAs before anybody has moved a slider."""
        chosen = tuple(chosen[:MOST_ADAPTERS])
        weights = (0.6, 0.4) if len(chosen) == 2 else (round(1 / max(1, len(chosen)), 2),) * len(chosen)
        return Mix(chosen, weights, self.guidance_scale, self.steps, PROMPTS[:1], (0, 1))

    def offer(self, file: Path, name: str) -> str:
        """Put a LoRA on the shelf, unread, and return its name there, which tells it from other files."""
        free, number = name, 2
        while free in self.shelf and self.shelf[free].resolve() != file.resolve():
            free, number = f"{name} ({number})", number + 1
        self.shelf[free] = file
        return free

    def check(self, file: Path) -> str:
        """Return the name of a LoRA file, if it can be used here.

        Raises:
            InputError: if it is no LoRA, or does not fit the base.
        """
        (adapter,) = read_adapters([file])
        check_adapter(adapter, self.painter.unet, self.painter.text_encoder, self.base)
        return adapter.name

    def adapters(self, mix: Mix) -> list[Adapter]:
        """Return the adapters of a mix, named as `predict` names them, without the trigger words that it leaves out.

        Raises:
            InputError: if one is not on the shelf, or its file is gone or cannot be read.
        """
        return self._read(mix)[0]

    def notes(self, mix: Mix) -> list[str]:
        """Return what `predict` would warn of: in files, prompts, and how they suit the base.

        Raises:
            InputError: as `adapters`, or a prompt cannot be read.
        """
        adapters, said = self._read(mix)
        samples, painter = mix.samples(), self.painter
        texts = [text for one in samples for text in mix.condition(mix.weights).prompts(adapters, one.prompt)]
        doubts = [painter.doubt(one) for one in adapters]
        cut = cut_offs(painter.tokenizer, [*texts, mix.negative_prompt])
        found = [*said, *doubts, doubt_of_clip_skip(adapters, painter.clip_skip), cut]
        return list(filter(None, [*found, *warnings_of(samples, [mix.guidance_scale])]))

    def _read(self, mix: Mix) -> tuple[list[Adapter], list[str]]:
        """Return the adapters of a mix, and what was said of their files."""
        if lost := [name for name in mix.adapters if name not in self.shelf]:
            raise InputError(f"{' and '.join(lost)} is not on the desk; drop the file on the page, or choose another")
        files = [self.shelf[name] for name in mix.adapters]
        if gone := [str(file) for file in files if not file.exists()]:
            raise InputError(f"{' and '.join(gone)} is gone; put it back, or take it off the desk")
        key = tuple(
            (file, file.stat().st_mtime_ns, name in mix.silent) for file, name in zip(files, mix.adapters, strict=True)
        )
        with self._reading:  # visitors share the sets, and one's may be forgotten while another asks for it
            if key not in self._sets:
                with heard() as said:
                    adapters = read_adapters(files)
                self._sets[key] = (
                    [
                        replace(one, metadata=one.metadata | {"trigger": ""}) if name in mix.silent else one
                        for one, name in zip(adapters, mix.adapters, strict=True)
                    ],
                    said,
                )
            return _kept(self._sets, key, lambda: len(self._sets) > KEPT_SETS)

    def triggers(self, mix: Mix) -> dict[str, str]:
        """Return the trigger words that the files of a mix state, "" for none, also those that it leaves out."""
        adapters = self.adapters(replace(mix, silent=()))
        return {name: one.metadata.get("trigger", "") for name, one in zip(mix.adapters, adapters, strict=True)}

    def draw(self, mix: Mix, weights: Sequence[float], wanted: Callable[[], bool] = lambda: True) -> list[dict]:
        """Draw one column of a mix, or return it from memory.

        Args:
            mix: settings.
            weights: of the column, as in `mix.columns()`.
            wanted: asked before each UNet call whether the pictures are still wanted.

        Returns:
            a row for each picture, as `Painter.pictures` describes, and its CLIP `score`, or None.

        Raises:
            InputError: if it cannot be drawn.
            Superseded: if it is not wanted any more.
        """
        with self._drawing:
            key = self._key(mix, weights, self._prepared(mix, wanted))
            if key not in self._columns:
                self._columns[key] = self._drawn(mix, mix.condition(weights), key[0], wanted)
            return _kept(self._columns, key, lambda: self._bytes() > KEPT_BYTES)

    def remembered(self, mix: Mix, wanted: Callable[[], bool]) -> dict[tuple[float, ...], list[dict]]:
        """Return the columns of a mix that need not be drawn, by their weights; raises as `draw`."""
        with self._drawing:
            prompts = self._prepared(mix, wanted)
            keys = {weights: self._key(mix, weights, prompts) for weights in mix.columns()}
            return {weights: self._columns[key] for weights, key in keys.items() if key in self._columns}

    def _prepared(self, mix: Mix, wanted: Callable[[], bool]) -> tuple:
        """Have the adapters of a mix at hand, and return what all its columns depend on."""
        if not wanted():
            raise Superseded
        adapters = self.adapters(mix)
        mix.check(adapters, self.painter.picture_side)
        check_sizes(mix.samples(), resolve_base(self.base))
        if adapters is not self._taken:
            self.painter.take(adapters)
            self._taken = adapters
        return tuple(mix.lines()), mix.negative_prompt, str(self.painter.scheduler.config)

    def _key(self, mix: Mix, weights: Sequence[float], prompts: tuple) -> tuple:
        """Return what a column depends on; of the adapters, on those that it uses."""
        used = tuple(
            (one.sha256, one.name, one.metadata.get("trigger"), weight)
            for one, weight in zip(self.painter.adapters, weights, strict=True)
            if weight
        )
        return prompts, used, replace(mix.condition(weights), weights=())

    def _drawn(self, mix: Mix, condition: Condition, prompts: tuple, wanted: Callable[[], bool]) -> list[dict]:
        begun = prompts, condition.guidance_scale, condition.num_inference_steps
        if begun != self._begun[0]:
            self._begun = begun, {}
        samples = mix.samples()

        def ask(*_: object) -> None:
            if not wanted():
                raise Superseded

        rows, watched = [], self.painter.unet.register_forward_pre_hook(ask)
        try:
            with torch.inference_mode():
                for places in batches_of([one.way for one in samples], BATCH):
                    batch = prompt_batch(samples, places, 1)
                    known = self._begun[1].setdefault(tuple(places), {})
                    rows += self._scored(self.painter.pictures([condition], batch, batch["seed"], known))
        finally:
            watched.remove()
        return sorted(rows, key=lambda row: row["index"])

    def _scored(self, rows: list[dict]) -> list[dict]:
        """Add the CLIP score of pictures of one size."""
        if self.encoder is None:
            return [row | {"score": None} for row in rows]
        pictures = torch.stack([row["image"] for row in rows])
        scores = clip_scores(self.encoder, pictures, [row["content"] for row in rows]).tolist()
        return [row | {"score": score} for row, score in zip(rows, scores, strict=True)]

    def _bytes(self) -> int:
        return sum(row["image"].nbytes for rows in self._columns.values() for row in rows)


def _kept(kept: OrderedDict[tuple, T], key: tuple, too_many: Callable[[], bool]) -> T:
    """Return what is kept under a key, and forget what was used longest ago."""
    kept.move_to_end(key)
    while too_many() and len(kept) > 1:
        kept.popitem(last=False)
    return kept[key]
