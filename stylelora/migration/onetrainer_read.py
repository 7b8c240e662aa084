"""Reads a JSON of OneTrainer, with the concepts and samples that it names, as settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stylelora.migration import captions
from stylelora.migration.kohya_read import trigger_of
from stylelora.migration.onetrainer import DEFAULTS, TABLE
from stylelora.migration.rows import Setting, Settings
from stylelora.records import InputError
from stylelora.texts import parse_json, printable, read_text

_MARKS = ("training_method", "model_type", "base_model_name", "output_model_destination", "concept_file_name")
_BASES = ("STABLE_DIFFUSION_15", "STABLE_DIFFUSION_20", "STABLE_DIFFUSION_20_BASE", "STABLE_DIFFUSION_21")
#: Option of a sample -> letter of a prompt's line.
_LETTERS = {"negative_prompt": "n", "width": "w", "height": "h", "seed": "d", "cfg_scale": "l", "diffusion_steps": "s"}


def is_onetrainer(config: Mapping) -> bool:
    """Return whether a JSON is one of OneTrainer."""
    return sum(mark in config for mark in _MARKS) >= 2


def read(config: Mapping[str, Any], path: Path) -> list[Setting]:
    """Return the settings of a JSON, and OneTrainer's defaults of what it does not have.

    Raises:
        InputError: if it trains something else.
    """
    method, kind = config.get("training_method"), config.get("peft_type", "LORA")
    model = config.get("model_type", _BASES[0])
    if model not in (*_BASES, "STABLE_DIFFUSION_21_BASE"):
        raise InputError(f"{path} trains {model}; fit trains Stable Diffusion 1.x and 2.x only")
    if method != "LORA" or kind != "LORA":
        raise InputError(
            f"{path} does not train a LoRA but {kind if method == 'LORA' else method}; fit trains LoRAs only"
        )
    settings = [*_flat(config)]
    settings += _concepts(config.get("concepts") or _beside(config, "concept_file_name", path), "concepts")
    settings += _samples(config.get("samples") or _beside(config, "sample_definition_file_name", path), "samples")
    known = Settings(settings)
    absent = {key: value for key, value in DEFAULTS.items() if known.get(key) is None}
    if known.get("gradient_checkpointing") is not None:
        absent.pop("unet.gradient_checkpointing", None)  # the older switch of both
    if known.get("layer_filter"):
        absent.pop("layer_filter_preset", None)
    if known.number("text_encoder.dropout_probability"):
        absent.pop("dropout of captions")
    name = known.get("concept.name") or Path(str(known.get("output_model_destination", path.stem))).stem
    absent[captions.ON_DISK] = found = captions.read(folder := str(known.get("concept.path") or ""))
    absent["trigger word"] = found.trigger(trigger_of(folder, str(name)))
    return [Setting(key, key, value, given=False) for key, value in absent.items()] + settings


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
    """Yield settings with dotted names; what the table has as a whole stays whole."""
    for name, value in config.items():
        full = f"{prefix}{name}"
        if full in ("concepts", "samples") and value:
            continue
        if isinstance(value, Mapping) and full not in TABLE:
            yield from _flat(value, f"{full}.")
        elif full == "optimizer":  # of old files
            yield Setting(full, "optimizer.optimizer", value)
        else:
            yield Setting(full, name if name == "__version" else full, value)


def _concepts(concepts: Sequence[Mapping], name: str) -> list[Setting]:
    """Return the settings of all concepts; the first that is trained counts."""
    settings: list[Setting] = []
    first: Mapping | None = None
    for number, concept in enumerate(concepts):
        if not isinstance(concept, Mapping):
            raise InputError(f"{name} has {concept!r}, which is no concept; correct it")
        kind = "concept"
        if not concept.get("enabled", True):
            kind = "disabled"
        elif concept.get("type", "STANDARD") == "VALIDATION" or concept.get("validation_concept"):
            kind = "validation_concept"
        elif first is not None:
            kind = "another_concept"
        first = concept if kind == "concept" else first
        for one in _flat(concept, "concept."):
            shown = one.name.replace("concept.", f"{name}.{number}.", 1)
            own = kind == "concept" or one.key == "__version"
            settings.append(Setting(shown, one.key if own else kind, one.value))
    return settings


def _samples(samples: Sequence[Mapping], name: str) -> list[Setting]:
    """Return the settings of all samples; the prompt of each is a line with its options."""
    settings = []
    for number, sample in enumerate(samples):
        options = {key: sample.get(key) for key in _LETTERS if sample.get(key) not in (None, "")}
        if sample.get("random_seed"):
            options.pop("seed", None)
        words = [str(sample.get("prompt", "")), *(f"--{_LETTERS[key]} {value}" for key, value in options.items())]
        line = " ".join(" ".join(words).split()) if sample.get("enabled", True) and words[0].strip() else ""
        for key, value in sample.items():
            prompt = key == "prompt"
            row = key if key == "__version" else f"sample.{key}"
            settings.append(Setting(f"{name}.{number}.{key}", row, line if prompt else value, read=value))
    return settings


def _beside(config: Mapping, key: str, path: Path) -> list[Mapping]:
    """Return the list in a file that a config names; none if it is not there."""
    if not (file := config.get(key)):
        return []
    for place in (Path(file), path.parent / file, path.parent / Path(str(file).replace("\\", "/")).name):
        if place.is_file() and place.resolve() != path.resolve():
            found = parse_json(read_text(place), f"{printable(place)}, named by {printable(path)},")
            return found if isinstance(found, list) else []
    return []
