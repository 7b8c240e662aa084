"""What the mixing desk draws: settings, which are also an address, a config of `predict` and a picture's note."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stylelora.data.prompts import NUMBERS, SamplePrompt, choose_prompts
from stylelora.diffusion.conditions import Condition, check_condition
from stylelora.lora.read import Adapter
from stylelora.records import InputError
from stylelora.texts import parse_json, quoted

MOST_ADAPTERS = 8
MOST_PICTURES = 16  # in a column: more is a work for `predict`
MOST_SIDES = 4  # times the base's own side of a picture: more may be more than the memory holds
BATCH = 8  # pictures sampled at once, here and by the config that is taken away


@dataclass(frozen=True)
class Mix:
    """Settings of the desk.

    Attributes:
        adapters: names of the LoRAs, as the shelf has them.
        weights: one for each.
        silent: names of those whose trigger words are left out.
        strength: multiplies all weights.
        method: blending method.
        guidance_scale: guidance scale (CFG).
        num_inference_steps: denoising steps.
        prompts: without trigger words; each as of `SamplePrompt.of_line`.
        negative_prompt: what guidance leads away from.
        seeds: of each prompt; each is a row of pictures.
    """

    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    guidance_scale: float
    num_inference_steps: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    negative_prompt: str = ""
    strength: float = 1.0
    method: str = "sum"
    silent: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return a prompt for each row of pictures, with its seed.

        Raises:
            InputError: if there is none, or there are too many.
        """
        lines = [f"{prompt} --d {seed}" for prompt in self.prompts for seed in self.seeds]
        if not lines:
            raise InputError("there is nothing to draw; write a prompt, and a seed such as 0")
        if len(lines) > MOST_PICTURES:
            raise InputError(
                f"{len(self.prompts)} prompts with {len(self.seeds)} seeds are {len(lines)} rows, and the desk draws "
                f"{MOST_PICTURES}; give fewer"
            )
        return lines

    def samples(self) -> list[SamplePrompt]:
        """Return the prompts as `predict` reads them.

        Raises:
            InputError: as `lines`, or a prompt cannot be read.
        """
        return choose_prompts(self.lines(), None, "file", self.negative_prompt, [])

    def columns(self) -> list[tuple[float, ...]]:
        """Return the weights of each column: the base, each adapter alone, and the blend, each once."""
        count = len(self.adapters)
        alone = [tuple(float(place == other) for other in range(count)) for place in range(count)]
        return list(dict.fromkeys([(0.0,) * count, *alone, self.weights]))

    def condition(self, weights: Sequence[float]) -> Condition:
        """Return how a column is drawn; the base as `predict` draws it, without method and strength."""
        how = int(self.num_inference_steps), float(self.guidance_scale)
        blended = (self.method, self.strength) if any(weights) else ("sum", 1.0)
        return Condition(blended[0], tuple(weights), *how, blended[1])

    def check(self, adapters: Sequence[Adapter], side: int) -> None:
        """Check that it can be drawn, before anything is.

        Args:
            adapters: its adapters.
            side: of the base's own pictures, in pixels.

        Raises:
            InputError: if not.
        """
        for prompt in self.prompts:
            one = SamplePrompt.of_line(prompt, quoted(prompt))
            if one.seed is not None:
                raise InputError(f"{quoted(prompt)} has a seed of its own; write it into Seeds")
            if max(one.width or 0, one.height or 0) > MOST_SIDES * side:
                raise InputError(
                    f"{quoted(prompt)} asks for a larger picture than the desk draws; give sides up to "
                    f"{MOST_SIDES * side} pixels"
                )
        self.samples()
        if self.num_inference_steps > (most := NUMBERS["num_inference_steps"][2]):
            raise InputError(f"num_inference_steps is {self.num_inference_steps}; give 1 to {most}")
        for weights in self.columns():
            check_condition(self.condition(weights), adapters)

    def address(self) -> str:
        """Return the settings as the query of an address."""
        return urlencode({name: json.dumps(value, ensure_ascii=False) for name, value in asdict(self).items()})

    @classmethod
    def of_address(cls, query: Mapping[str, str], default: Mix) -> Mix:
        """Return the settings of an address; what it does not state is as by default.

        Raises:
            InputError: if a value cannot be read.
        """
        stated = {name: parse_json(query[name], f"the address's {name}") for name in _KINDS.keys() & query.keys()}
        return cls.of_record(asdict(default) | stated)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Mix:
        """Return the settings of a record with all of them, of an address or a picture.

        Raises:
            InputError: if one is missing or cannot be read.
        """
        try:
            mix = cls(**{name: _read(kind, record[name]) for name, kind in _KINDS.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"these are no settings of the desk ({error}); take another picture or address") from error
        if len(mix.weights) != len(mix.adapters) or len(mix.adapters) > MOST_ADAPTERS:
            raise InputError(f"give each LoRA one weight, and choose at most {MOST_ADAPTERS}")
        return mix

    def config(self, base: str, files: Mapping[str, Path], triggers: Mapping[str, str]) -> str:
        """Return the config with which `predict` draws the same pictures.

        Args:
            base: the base, as it was given.
            files: file of each adapter.
            triggers: trigger words of each adapter, "" for none.
        """
        model = {
            "adapters": [str(files[name]) for name in self.adapters],
            "weights": [list(one) for one in self.columns() if any(one)],
            "base": base,
            "methods": [self.method],
            "strengths": [self.strength],
            "guidance_scales": [self.guidance_scale],
            "num_inference_steps": self.num_inference_steps,
            "triggers": ["" if name in self.silent else triggers[name] for name in self.adapters],
        }
        data = {"prompts": self.lines(), "negative_prompt": self.negative_prompt, "batch_size": BATCH}
        lines = ["# Question: what did the mixing desk show?", "# Run:      python cli.py predict --config FILE"]
        for part, path, values in (
            ("model", "lightning_modules.ComposedStyles", model),
            ("data", "datamodules.Prompts", data),
        ):
            lines += [f"{part}:", f"  class_path: {path}", "  init_args:"]
            lines += [f"    {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        return "\n".join(lines) + "\n"  # JSON is YAML


def _number(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is no number")
    return number


#: Field -> its type; in brackets: of each of several.
_KINDS = {
    "adapters": [str], "weights": [_number], "guidance_scale": _number, "num_inference_steps": int, "prompts": [str],
    "seeds": [int], "negative_prompt": str, "strength": _number, "method": str, "silent": [str],
}  # fmt: skip


def _read(kind: Any, value: Any) -> Any:
    if not isinstance(kind, list):
        return kind(value)
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} is no list")
    return tuple(kind[0](one) for one in value)
