"""The model card of a trained LoRA: what it is, how to use it, and what was measured."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from stylelora.diffusion.objective import Objective
from stylelora.files import write
from stylelora.lora.options import LoraOptions
from stylelora.lora.read import START
from stylelora.records import Metric
from stylelora.runs.folder import adapter_file
from stylelora.runs.kept import point
from stylelora.runs.notes import shared_name

_SHOWN = (
    *("rank", "alpha", "target_modules", "optimizer", "lr_scheduler", "ema_decay", "caption_dropout", "lora_dropout"),
)
#: Shown only if they differ from these.
_UNUSUAL = {"init_from": None, "lora_plus_ratio": None, "start": 0.0}
#: Likewise, of each the options that differ.
_GROUPS = {"lora": LoraOptions(), "objective": Objective()}

UNKNOWN = "not stated; check that you may share what was made from them"


def write_card(folder: Path) -> Path | None:
    """Write `NAME.md` beside a run's adapter, in the form that the Hugging Face hub shows; None without an adapter.

    Args:
        folder: folder of a finished run.
    """
    import yaml
    from safetensors import safe_open

    file = adapter_file(folder)
    if not file.is_file():
        return None
    with safe_open(file, "pt") as opened:
        notes = opened.metadata() or {}
    result = json.loads((folder / "result.json").read_text())
    trigger, base, name = notes["trigger"], notes["base"], file.stem
    sheet = folder / "samples" / f"{point(int(notes['epoch']), int(notes['ss_steps']))}.png"
    preview = file.with_suffix(".preview.png")
    head: dict = {"library_name": "diffusers", "pipeline_tag": "text-to-image", "instance_prompt": trigger}
    head["tags"] = ["lora", "stable-diffusion", "stable-diffusion-diffusers", "text-to-image", "template:sd-lora"]
    if base.count("/") == 1:  # a hub id
        head["base_model"] = base
    if preview.is_file():
        head["widget"] = [{"text": notes["prompt"], "output": {"url": preview.name}}]
    settings = ((result["config"] or {}).get("model") or {}).get("init_args", {})
    rows = {key: settings[key] for key in _SHOWN if key in settings}
    rows["alpha"] = "the rank" if rows.get("alpha") is None else rows["alpha"]
    rows |= {key: settings[key] for key, usual in _UNUSUAL.items() if settings.get(key, usual) != usual}
    for group, usual in _GROUPS.items():
        plain = json.loads(json.dumps(dataclasses.asdict(usual)))  # lists, as in a config
        rows[group] = {key: one for key, one in settings.get(group, {}).items() if one != plain.get(key)}
    data = ((result["config"] or {}).get("data") or {}).get("init_args", {})
    prior = data.get("prior") or {}  # without its folder, which says nothing to others
    rows["prior"] = {key: prior.get(key) for key in ("prompt", "weight")} if prior.get("root") else None
    rows["masks"] = shared_name(data["masks"]) if data.get("masks") else None
    rows = {key: value for key, value in rows.items() if key in _SHOWN or value not in (None, {})}
    rows |= {"text_encoder": settings["text_encoder"]} if settings.get("text_encoder", {}).get("rank") else {}
    rows |= {"epoch": f"{notes['epoch']}, counted from 0, of {notes['ss_num_epochs']}", "steps": notes["ss_steps"]}
    rows |= {"resolution": notes["resolution"], "batch size": notes["ss_batch_size_per_device"]}
    skill = (
        f"`skill`: how much better than the base it predicts the {notes['held_out_count']} pictures that it\n"
        "was not trained on; 0 is the base, 1 perfect. "
    )
    skill = skill if notes["held_out_count"] != "0" else "No picture was left to measure skill with. "
    measured = [_row(Metric.of_record(one)) for one in result["metrics"]]
    pictures = f"![Samples: on the left of each pair the base, on the right the LoRA](samples/{sheet.name})\n\n"
    late = f"- The samples begin without it: it joins after {float(notes.get(START, 0)):.0%} of the steps.\n"
    use = f"- ComfyUI: copy `{file.name}` to `models/loras`, load it at strength 1. A1111 and Forge: `models/Lora`.\n"
    text = f"""# {name}

A style LoRA for `{base}`. Trigger word: **{trigger}**

{pictures if sheet.is_file() else ""}## Use

{use if base != "mini" else ""}- diffusers: `pipeline.load_lora_weights("{file.name}")`
- Prompt: `{notes.get("prompt", f"{trigger}, a cat")}`
{late if START in notes else ""}
## Measured

With 95 % intervals. {skill}`clip_score`: how well samples show what the prompt asks for.

| measure | value | interval | n |
|---|---|---|---|
{chr(10).join(measured)}

## Training

{notes["train_count"]} pictures, licence: {notes.get("licence") or UNKNOWN}

| setting | value |
|---|---|
{chr(10).join(f"| {key} | {_plain(value)} |" for key, value in rows.items())}
"""
    card = file.with_suffix(".md")
    write(card, f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n{text}")
    return card


def _row(metric: Metric) -> str:
    known = math.isfinite(metric.ci_low) and math.isfinite(metric.ci_high)  # not of a single prompt
    interval = f"{metric.ci_low:.3f} to {metric.ci_high:.3f}" if known else "unknown"
    return f"| {metric} | {metric.value:.3f} | {interval} | {metric.n} |"


def _plain(value: object) -> str:
    if isinstance(value, dict) and "class_path" in value:
        return f"{value['class_path']}: {_plain(value.get('init_args', {}))}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
