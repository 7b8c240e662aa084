"""The program `merge`: blends several LoRA files into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from stylelora.lora.blend import Method, as_state, blend
from stylelora.lora.compose import FULL_RANK
from stylelora.lora.factors import inner, truncated
from stylelora.lora.mix import BlendOptions
from stylelora.lora.read import described, distinct, read_adapters
from stylelora.lora.write import save_adapter, save_kohya
from stylelora.records import InputError


def merge(
    adapters: list[str] | str,
    weights: list[float] | float,
    output: str,
    method: Method = "sum",
    rank: int | None = None,
    format: Literal["diffusers", "kohya"] = "diffusers",
    density: float = 0.5,
    protection: float = 1.0,
    seed: int = 0,
) -> None:
    """Blend LoRA files into one, to be used at strength 1.

    Args:
        adapters: LoRA files of the same base; such as those that `fit` writes.
        weights: one weight per adapter, 0 or more; their sum is the strength of the blend.
        output: file to write, such as blend.safetensors; its folder is made if needed.
        method: sum, ties, dare, knots_ties, tsv_m, iso_c or np_lora; sum adds the updates exactly, and
            `stylelora/lora/compose.py` explains the others.
        rank: rank of the merged file; which then holds the nearest update of that rank; default: exact (the sum of the
            ranks).
        format: key names: diffusers, or kohya for ComfyUI and A1111.
        density: ties, dare, knots_ties: share of entries that are kept; above 0, at most 1.
        protection: np_lora: how much each adapter is protected from the others, 0..1.
        seed: dare: seed of its random draws.

    Raises:
        InputError: if files, weights or options cannot be used.
    """
    paths, target = [adapters] if isinstance(adapters, str) else adapters, Path(output)
    if target.is_dir():
        raise InputError(f"{output} is a folder; give output the name of a file, such as blend.safetensors")
    if target.resolve() in [Path(path).resolve() for path in paths]:
        raise InputError(f"{output} is one of the adapters; give output another name")
    given = read_adapters(paths)
    amounts = [weights] if isinstance(weights, int | float) else weights
    options = BlendOptions(density=density, protection=protection, seed=seed)
    updates = blend(given, amounts, method, options)
    if not updates:
        raise InputError("all weights are 0, which is the base itself; give at least one weight above 0")
    if rank is None and method in FULL_RANK:
        raise InputError(f"{method} makes full-rank updates; give the file a rank, such as --rank 32")
    if rank is not None:
        if rank < 1:
            raise InputError(f"rank is {rank}; it must be at least 1")
        whole, updates = updates, {layer: truncated(update, rank) for layer, update in updates.items()}
        lost = _lost(whole, updates)
        much = ", which is a lot; a higher rank loses less" if lost > 0.5 else ""
        print(f"{lost:.1%} of the blend's norm lie beyond rank {rank} and are lost{much}")
    inputs = {layer: shape for adapter in given for layer, shape in adapter.inputs.items()}
    state, rank = as_state(updates, inputs)
    parents = [
        {"name": adapter.name, "weight": weight, "sha256": adapter.sha256, **_kept(adapter.metadata)}
        for adapter, weight in zip(given, amounts, strict=True)
    ]
    told = {"density": density, "protection": protection, "seed": seed}
    notes = {"method": method, "parents": json.dumps(parents), "options": json.dumps(told)}
    if triggers := [parent["trigger"] for parent in parents if parent["weight"] and "trigger" in parent]:
        notes["trigger"] = ", ".join(distinct(triggers))
    bases = sorted({parent["base"] for parent in parents if "base" in parent})
    if len(bases) > 1:
        print(f"the adapters were made for different bases ({', '.join(bases)}); the file will name no base")
    elif bases:
        notes["base"] = bases[0]
    save = save_kohya if format == "kohya" else save_adapter
    save(target, state, rank=rank, alpha=float(rank), metadata=notes)
    words = described([adapter.name for adapter in given], amounts)
    print(f"{output} holds {len(updates)} layers of rank {rank}: {words}")
    if format == "kohya" and bases == ["mini"]:
        print("it works with the base mini only: ComfyUI and others need a LoRA trained on Stable Diffusion 1.5")


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {name: metadata[name] for name in ("base", "style", "trigger", "method", "parents") if name in metadata}


def _lost(whole: dict, kept: dict) -> float:
    """Return the relative error of truncation: sqrt(1 - |kept|^2 / |whole|^2)."""
    squares = [sum(inner(update, update) for update in updates.values()) for updates in (whole, kept)]
    return max(0.0, 1 - squares[1] / squares[0]) ** 0.5 if squares[0] else 0.0
