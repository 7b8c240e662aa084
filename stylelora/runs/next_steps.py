"""What to do after training."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from stylelora.lora.read import START
from stylelora.records import Metric
from stylelora.runs.folder import adapter_file
from stylelora.runs.kept import point
from stylelora.runs.resume import resume_command


def next_steps(folder: Path, base: str = "mini") -> str:
    """Describe the output files of a finished training and the commands to run next.

    Args:
        folder: the run's folder.
        base: the base that the run names.
    """
    lines, adapter = [], adapter_file(folder)
    metadata, result = {}, json.loads((folder / "result.json").read_text())
    if adapter.is_file():
        from safetensors import safe_open

        with safe_open(adapter, "pt") as file:
            metadata = file.metadata() or {}
        metrics = map(Metric.of_record, result["metrics"])
        skills = [metric.value for metric in metrics if metric.quantity.measure == "skill"]
        of = f"epoch {result['epoch']}" + "".join(f", skill {value:.3f}" for value in skills[:1])
        lines.append(f"adapter   {adapter}  ({of}; trigger word {metadata.get('trigger')})")
    if result.get("warning"):
        lines.insert(0, f"warning   {result['warning']}")
    if sheets := sorted(folder.glob("samples/epoch=*.png")):
        kept = [sheet for sheet in sheets if sheet.stem == point(result["epoch"] or 0, result["step"] or 0)]
        lines.append(f"pictures  {(kept or sheets)[-1]}  (one sheet of samples per epoch)")
    lines.append(f"result    {folder / 'result.json'}")
    if result.get("status") == "cancelled":
        lines.append(f"go on     {resume_command(folder)}")
    if adapter.is_file():
        other = "" if base == "mini" else f" --model.base {shlex.quote(base)}"
        skip = metadata.get("ss_clip_skip", "1")
        other += "" if skip == "1" else f" --model.clip_skip {skip}"
        lines.append(
            f"use it    python cli.py predict --config configs/compose/one.yaml --model.adapters '[{adapter}]'{other}"
        )
        if base != "mini":  # no other program supports mini
            lines.append(f"          copy {adapter.name} to ComfyUI/models/loras; A1111, Forge and kohya read it, too")
        lines.append(f'          pipeline.load_lora_weights("{adapter}")   (in diffusers)')
        if START in metadata:
            share = f"{float(metadata[START]):.0%}"
            lines.append(f"          it joins after {share} of the steps; other programs use it from the first one")
        lines.append(f"measure   python cli.py test --model.adapters '[{adapter}]'")
    return "\n".join(lines)
