"""The program `merge`: blends several LoRA files into one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from stylelora.base.clip_skip import clip_skip_of
from stylelora.base.same_base import BASE_WEIGHTS
from stylelora.base.zero_terminal_snr import NOTE
from stylelora.lora.blend import Method, as_layers, blend
from stylelora.lora.compose import FULL_RANK
from stylelora.lora.convert import check_output, described_ranks, say_change, say_replaced
from stylelora.lora.factors import Factors, inner, truncated
from stylelora.lora.mix import BlendOptions
from stylelora.lora.read import START, Adapter, described, distinct, read_adapters
from stylelora.lora.write import DType, Naming, write_lora
from stylelora.records import InputError

# What describes the base or how to sample, and stands in a merged file if all its sources agree.
_OF_BASE = ("ss_base_model_version", "ss_v2", "ss_sd_model_name", "ss_sd_model_hash", "ss_clip_skip")
_OF_BASE += (BASE_WEIGHTS, NOTE, START, "modelspec.architecture", "modelspec.prediction_type")
_NO_NOTES = ("modelspec.thumbnail", "sshs_model_hash", "sshs_legacy_hash")
_PATH = re.compile(r"(/|~|[A-Za-z]:\\).*[/\\](?P<name>[^/\\]+)")  # of one's own machine


def merge(
    adapters: list[str] | str,
    weights: list[float] | float,
    output: str,
    method: Method = "sum",
    rank: int | None = None,
    format: Naming = "kohya",
    dtype: DType = "float32",
    unet_only: bool = False,
    triggers: list[str] | None = None,
    density: float = 0.5,
    protection: float = 1.0,
    seed: int = 0,
) -> None:
    """Blend LoRA files into one, to be used at strength 1.

    Args:
        adapters: LoRA files for the same base, of `fit` or of other programs.
        weights: one weight per adapter, 0 or more; their sum is the strength of the blend.
        output: file to write, such as blend.safetensors; its folder is made if needed.
        method: sum, ties, dare, knots_ties, tsv_m, iso_c or np_lora; sum adds the updates exactly, and
            `stylelora/lora/compose.py` explains the others.
        rank: highest rank of a layer in the merged file, which then holds the nearest update of that rank; default:
            exact (the sum of the ranks).
        format: key names: kohya (ComfyUI, A1111, Forge and most others), diffusers or peft.
        dtype: type of the weights: float32, float16 or bfloat16.
        unet_only: leave out the layers of text encoders.
        triggers: trigger words, one per adapter, "" for none; default: those that the files state.
        density: ties, dare, knots_ties: share of entries that are kept; above 0, at most 1.
        protection: np_lora: how much each adapter is protected from the others, 0..1.
        seed: dare: seed of its random draws.

    Raises:
        InputError: if files, weights or options cannot be used.
    """
    paths, target = [adapters] if isinstance(adapters, str) else adapters, Path(output)
    check_output(output, paths)
    given = read_adapters(paths, unet_only, triggers)
    amounts = [weights] if isinstance(weights, int | float) else weights
    updates = blend(given, amounts, method, BlendOptions(density=density, protection=protection, seed=seed))
    if not updates:
        raise InputError("all weights are 0, which is the base itself; give at least one weight above 0")
    if rank is None and method in FULL_RANK:
        raise InputError(f"{method} makes full-rank updates; give the file a rank, such as --rank 32")
    if rank is not None:
        updates = _cut(updates, rank)
    told = {"method": method, "options": json.dumps({"density": density, "protection": protection, "seed": seed})}
    shown = {"ss_output_name": target.stem, "modelspec.sai_model_spec": "1.0.0", "modelspec.title": target.stem}
    notes = told | shown | _notes(given, amounts)
    say_replaced(output)
    write_lora(target, as_layers(updates, given), notes, format, dtype)
    words = described([adapter.name for adapter in given], amounts)
    ranks = described_ranks(update.up.shape[1] for update in updates.values())
    print(f"{output} holds {len(updates)} layers of {ranks}: {words}")
    say_change(updates, output, dtype)
    if "trigger" in notes:
        print(f"write {notes['trigger']!r} into the prompt")
    if {adapter.metadata.get("base") for adapter in given} == {"mini"}:
        print("it works with the base mini only: ComfyUI and others need a LoRA trained on Stable Diffusion 1.5")


def _cut(updates: Mapping[str, Factors], rank: int) -> dict[str, Factors]:
    """Return the nearest updates of a rank, and say what is lost."""
    if rank < 1:
        raise InputError(f"rank is {rank}; it must be at least 1")
    cut = {layer: truncated(update, rank) for layer, update in updates.items()}
    lost = _lost(updates, cut)
    much = ", which is a lot; a higher rank loses less" if lost > 0.5 else ""
    print(f"{lost:.1%} of the blend's norm lie beyond rank {rank} and are lost{much}")
    return cut


def _notes(given: Sequence[Adapter], amounts: Sequence[float]) -> dict[str, str]:
    """Return the sources with all their notes, their trigger words, and what they say of their base if all agree."""
    parents = [
        {"name": adapter.name, "weight": weight, "sha256": adapter.sha256, **_kept(adapter.metadata)}
        for adapter, weight in zip(given, amounts, strict=True)
    ]
    notes = {"parents": json.dumps(parents)}
    if triggers := [parent["trigger"] for parent in parents if parent["weight"] and parent.get("trigger")]:
        notes["trigger"] = notes["modelspec.trigger_phrase"] = ", ".join(distinct(triggers))
    used = [adapter.metadata for adapter, weight in zip(given, amounts, strict=True) if weight]
    bases = sorted({one["base"] for one in used if "base" in one})
    if len(bases) > 1:
        print(f"the adapters were made for different bases ({', '.join(bases)}); the file will name no base")
    elif bases:
        notes["base"] = bases[0]
    if len(skips := {clip_skip_of(one) for one in used} - {None}) > 1:
        print(f"the adapters were trained with different CLIP skips ({', '.join(map(str, sorted(skips)))})")
    if len(starts := {adapter.start for adapter, weight in zip(given, amounts, strict=True) if weight}) > 1:
        several = ", ".join(f"{start:g}" for start in sorted(starts))
        print(f"the adapters join after different shares of the steps ({several}); the file does with the first step")
    shared = [key for key in _OF_BASE if key in used[0] and all(one.get(key) == used[0][key] for one in used)]
    return notes | {key: used[0][key] for key in shared}


def _kept(metadata: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in metadata.items() if name not in _NO_NOTES}
    return {name: found["name"] if (found := _PATH.fullmatch(value)) else value for name, value in kept.items()}


def _lost(whole: Mapping[str, Factors], kept: Mapping[str, Factors]) -> float:
    """Return the relative error of truncation: sqrt(1 - |kept|^2 / |whole|^2)."""
    squares = [sum(inner(update, update) for update in updates.values()) for updates in (whole, kept)]
    return max(0.0, 1 - squares[1] / squares[0]) ** 0.5 if squares[0] else 0.0
