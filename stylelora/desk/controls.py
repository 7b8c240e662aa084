"""The controls of Mix: from a mix to what they show, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from stylelora.desk.drawing import Desk
from stylelora.desk.mix import MOST_ADAPTERS, Mix
from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS
from stylelora.lora.compose import METHODS
from stylelora.records import InputError


def sentence_of(method: str) -> str:
    """Return what a method does: what its docstring says before the colon."""
    function = METHODS[method] if method in METHODS else SAMPLING_METHODS[method].plan
    first, *_ = function.__doc__.split(":")
    return first[0].lower() + first[1:]


class Controls:
    """The components of Mix that are settings, in the order in which events get them.

    Args:
        desk: whose shelf they offer.
        mix: what they show at first.
    """

    def __init__(self, desk: Desk, mix: Mix) -> None:
        self.desk = desk
        shown = self.values(mix)
        self.loras = gr.Dropdown(
            multiselect=True, max_choices=MOST_ADAPTERS, label="LoRAs", elem_id="loras",
            info="Each gets a slider, and a column of pictures of its own.", **shown.pop(0),
        )  # fmt: skip
        self.weights = [
            gr.Slider(0, 1.5, step=0.05, elem_id=f"weight-{place}", buttons=[], **shown.pop(0))
            for place in range(MOST_ADAPTERS)
        ]
        self.spoken = gr.CheckboxGroup(
            label="Trigger words", elem_id="spoken",
            info="The words that a LoRA was trained with; without its word it acts less.", **shown.pop(0),
        )  # fmt: skip
        self.prompts = gr.Textbox(
            label="Prompts", lines=2, elem_id="prompts", info="One on each line, without trigger words.", **shown.pop(0)
        )
        self.seeds = gr.Textbox(
            label="Seeds", elem_id="seeds", info="Such as 0 1 2: each draws another picture.", **shown.pop(0)
        )
        with gr.Accordion("More settings", open=False, elem_id="more"):
            self.strength = gr.Slider(
                0, 2, step=0.05, label="Strength", elem_id="strength", info="Multiplies all weights.", **shown.pop(0)
            )
            self.method = gr.Dropdown(
                [(f"{name}: {sentence_of(name)}", name) for name in (*METHODS, *SAMPLING_METHODS)],
                label="Method",
                elem_id="method",
                filterable=False,
                info="How the LoRAs become a blend.",
                **shown.pop(0),
            )
            self.guidance = gr.Slider(
                1, 20, step=0.5, label="Guidance scale (CFG)", elem_id="guidance",
                info="How strongly pictures follow their prompt.", **shown.pop(0),
            )  # fmt: skip
            self.steps = gr.Slider(
                1, 100, step=1, label="Steps", elem_id="steps", info="More take longer.", **shown.pop(0)
            )
            self.negative = gr.Textbox(
                label="Negative prompt", elem_id="negative", info="What guidance leads away from.", **shown.pop(0)
            )
        # The LoRAs whose sliders are shown, while others are being chosen; the page keeps it, not the server.
        self.shown = gr.Textbox(visible="hidden", **shown.pop(0))

    @property
    def all(self) -> list[gr.components.Component]:
        """Return the components."""
        more = [self.spoken, self.prompts, self.seeds, self.strength, self.method, self.guidance, self.steps]
        return [self.loras, *self.weights, *more, self.negative, self.shown]

    def values(self, mix: Mix) -> list[dict[str, Any]]:
        """Return what each component shows of a mix, in their order."""
        triggers = self.desk.triggers(mix)
        words = [(f"{word} ({name})", name) for name, word in triggers.items() if word]
        weights = [
            {"value": weight, "label": f"Weight of {name}", "visible": True}
            for name, weight in zip(mix.adapters, mix.weights, strict=True)
        ]
        hidden = {"value": 0.0, "label": "Weight", "visible": False}
        said = [name for _, name in words if name not in mix.silent]
        return [
            {"choices": list(self.desk.shelf), "value": list(mix.adapters)},
            *weights,
            *[hidden] * (MOST_ADAPTERS - len(weights)),
            {"choices": words, "value": said, "visible": bool(words)},
            {"value": "\n".join(mix.prompts)},
            {"value": " ".join(map(str, mix.seeds))},
            {"value": mix.strength},
            {"value": mix.method},
            {"value": mix.guidance_scale},
            {"value": mix.num_inference_steps},
            {"value": mix.negative_prompt},
            {"value": json.dumps(mix.adapters)},
        ]

    def show(self, mix: Mix) -> list:
        """Return the updates with which the components show a mix."""
        return [gr.update(**one) for one in self.values(mix)]

    def read(self, values: Sequence) -> Mix:
        """Return the mix that the components show; a LoRA that was just chosen gets a weight.

        Raises:
            InputError: if a value cannot be read, or a file is gone.
        """
        loras, *rest = values
        weights, rest = rest[:MOST_ADAPTERS], rest[MOST_ADAPTERS:]
        spoken, prompts, seeds, strength, method, guidance, steps, negative, shown = rest
        shown = json.loads(shown)
        known = dict(zip(shown, weights, strict=False))  # there are more sliders than LoRAs
        weights = [known.get(name, 0.5 if shown else 1.0) for name in loras]
        try:
            numbers = tuple(int(one) for one in seeds.replace(",", " ").split())
        except ValueError as error:
            raise InputError(f"the seeds are {seeds!r}; write whole numbers, such as 0 1 2") from error
        if min(numbers, default=0) < 0:
            raise InputError(f"the seeds are {seeds!r}; write numbers of at least 0, so that a picture comes again")
        if None in (strength, guidance, steps, *weights):
            raise InputError("a number is missing; write one, or move its slider")
        mix = Mix(
            adapters=tuple(loras), weights=tuple(map(float, weights)), guidance_scale=float(guidance),
            num_inference_steps=int(steps), prompts=tuple(filter(None, map(str.strip, prompts.split("\n")))),
            seeds=numbers, negative_prompt=negative.strip(), strength=float(strength), method=method,
        )  # fmt: skip
        words = self.desk.triggers(mix)
        return replace(
            mix, silent=tuple(name for name in loras if name in known and words[name] and name not in spoken)
        )
