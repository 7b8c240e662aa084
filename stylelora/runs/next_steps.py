"""The next steps after a training."""

from __future__ import annotations

import json
from pathlib import Path

from stylelora.runs.result import read_metrics


def next_steps(folder: Path) -> str:
    """Return where the files of a finished training are, and what to type next.

    Args:
        folder: of the run.
    """
    lines, adapter = [], folder / "adapter.safetensors"
    metadata, result = {}, json.loads((folder / "result.json").read_text())
    if adapter.is_file():
        from safetensors import safe_open

        with safe_open(adapter, "pt") as file:
            metadata = file.metadata() or {}
        skills = [metric.value for metric in read_metrics(folder) if metric.quantity.measure == "skill"]
        of = f"epoch {result['epoch']}" + "".join(f", skill {value:.3f}" for value in skills[:1])
        lines.append(f"adapter   {adapter}  ({of}; trigger word {metadata.get('trigger')})")
    if sheets := sorted(folder.glob("samples/epoch=*.png")):
        lines.append(f"pictures  {sheets[-1]}")
    lines.append(f"result    {folder / 'result.json'}")
    if adapter.is_file():
        base = "" if metadata.get("base", "mini") == "mini" else f" --model.base {metadata['base']}"
        lines += [
            f"use it    python cli.py predict --config configs/compose/one.yaml --model.adapters '[{adapter}]'{base}",
            f"          python cli.py merge --adapters {adapter} --weights 1 --format kohya --output "
            f"{metadata.get('style', 'style')}.safetensors   (for ComfyUI and A1111)",
            f'          pipeline.load_lora_weights("{adapter}")   (in diffusers)',
        ]
    return "\n".join(lines)
