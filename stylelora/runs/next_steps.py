"""What to do after training."""

from __future__ import annotations

import json
from pathlib import Path

from stylelora.records import Metric


def next_steps(folder: Path) -> str:
    """Describe the output files of a finished training and the commands to run next.

    Args:
        folder: the run's folder.
    """
    lines, adapter = [], folder / "adapter.safetensors"
    metadata, result = {}, json.loads((folder / "result.json").read_text())
    if adapter.is_file():
        from safetensors import safe_open

        with safe_open(adapter, "pt") as file:
            metadata = file.metadata() or {}
        metrics = map(Metric.of_record, result["metrics"])
        skills = [metric.value for metric in metrics if metric.quantity.measure == "skill"]
        of = f"epoch {result['epoch']}" + "".join(f", skill {value:.3f}" for value in skills[:1])
        lines.append(f"adapter   {adapter}  ({of}; trigger word {metadata.get('trigger')})")
    if sheets := sorted(folder.glob("samples/epoch=*.png")):
        kept = [sheet for sheet in sheets if sheet.stem == f"epoch={result['epoch'] or 0:03d}"]
        lines.append(f"pictures  {(kept or sheets)[-1]}  (one sheet of samples per epoch)")
    lines.append(f"result    {folder / 'result.json'}")
    if adapter.is_file():
        base = metadata.get("base", "mini")
        other = "" if base == "mini" else f" --model.base {base}"
        lines += [
            f"use it    python cli.py predict --config configs/compose/one.yaml --model.adapters '[{adapter}]'{other}",
            f'          pipeline.load_lora_weights("{adapter}")   (in diffusers)',
        ]
        if other:  # no other program supports mini
            name = f"{metadata.get('style', 'style')}.safetensors   (the file for ComfyUI and A1111)"
            lines.append(
                f"          python cli.py merge --adapters {adapter} --weights 1 --format kohya --output {name}"
            )
    return "\n".join(lines)
