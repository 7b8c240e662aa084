"""Reads a YAML of ai-toolkit as settings of its process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stylelora.migration import captions
from stylelora.migration.ai_toolkit import DEFAULTS, SWITCHES, TABLE
from stylelora.migration.kohya_read import OTHERS
from stylelora.migration.rows import Setting, Settings, yes
from stylelora.records import InputError

_TYPES = ("sd_trainer", "ui_trainer", "diffusion_trainer")
#: Option of samples -> letter of a prompt's line.
_LETTERS = {"neg": "n", "width": "w", "height": "h", "seed": "d", "guidance_scale": "l", "sample_steps": "s"}


def is_ai_toolkit(config: Mapping) -> bool:
    """Return whether a file is a job of ai-toolkit."""
    return isinstance(config.get("config"), Mapping) and isinstance(config["config"].get("process"), list)


def read(config: Mapping[str, Any], path: Path) -> list[Setting]:
    """Return the settings of a job, and ai-toolkit's defaults of what it does not have.

    Raises:
        InputError: if it trains something else, or several things.
    """
    processes = config["config"]["process"]
    if len(processes) != 1 or not isinstance(processes[0], Mapping):
        raise InputError(f"{path} has {len(processes)} processes; give one file per training")
    process = {str(name): value for name, value in processes[0].items()}
    _refuse_others(process, path)
    settings = [Setting(str(name), str(name), value) for name, value in config.items() if name != "config"]
    settings += [Setting(str(name), str(name), value) for name, value in config["config"].items() if name != "process"]
    sample, word = process.get("sample") or {}, str(process.get("trigger_word") or "")
    for name, value in process.items():
        if name == "datasets":
            settings += _data_sets(value or [])
        elif name == "sample":
            settings += _samples(value or {}, word)
        elif name in ("train", "network", "model", "save", "logging") and isinstance(value, Mapping):
            settings += _flat(value, f"{name}.")
        else:
            settings.append(Setting(name, name, value))
    known = Settings(settings)
    absent = {key: value for key, value in DEFAULTS.items() if known.get(key) is None}
    for key, other in (("network.linear", "network.rank"), ("network.linear_alpha", "network.alpha")):
        if known.get(other) is not None:
            absent.pop(key, None)
    if known.get("network.rank") is not None and known.get("network.linear") is not None:
        settings = [_unused(one, "network.linear") for one in settings]
    if known.number("train.prompt_dropout_prob"):
        absent.pop("dataset.caption_dropout_rate", None)
    if not sample.get("sample_every") and (sample.get("prompts") or sample.get("samples")):
        absent["sample.sample_every"] = 100
    folder = known.get("dataset.folder_path") or known.get("dataset.dataset_path") or ""
    absent[captions.ON_DISK] = found = captions.read(str(folder))
    if not known.get("trigger_word") and not known.get("dataset.trigger_word"):
        word = found.trigger(str(known.get("name") or path.stem))
        settings.append(Setting("trigger word", "trigger_word", word, given=False))  # last: it counts before a null
    return [Setting(key, key, value, given=False) for key, value in absent.items()] + settings


def _unused(setting: Setting, name: str) -> Setting:
    return Setting(name, "meta", setting.value) if setting.key == name else setting


def _refuse_others(process: Mapping[str, Any], path: Path) -> None:
    """Refuse what is no LoRA training of SD 1.x or 2.x."""
    model, kind = process.get("model") or {}, process.get("type")
    network = process.get("network") or {}
    for switch, name in SWITCHES.items():
        if yes(model.get(switch), f"model.{switch}"):
            raise InputError(f"{path} trains {name}; fit trains Stable Diffusion 1.x and 2.x only")
    architecture = str(model.get("arch") or "sd1")
    base = str(model.get("name_or_path") or "").lower()
    named = next((name for name, marks in OTHERS.items() if any(mark in base for mark in marks)), None)
    if architecture not in ("sd1", "sd2", "sd15", "sd") or named:
        raise InputError(f"{path} trains {named or architecture}; fit trains Stable Diffusion 1.x and 2.x only")
    if kind not in _TYPES or str(network.get("type", "lora")).lower() not in ("lora", "locon") or not network:
        what = kind if kind not in _TYPES else network.get("type", "the whole model") if network else "the whole model"
        raise InputError(f"{path} does not train a LoRA but {what}; fit trains LoRAs only")
    if not base:
        raise InputError(f"{path} names no base; give model.name_or_path")


def _flat(config: Mapping[str, Any], prefix: str) -> Iterator[Setting]:
    """Yield settings with dotted names; what the table has as a whole stays whole, unless it has parts."""
    for name, value in config.items():
        full = f"{prefix}{name}"
        if full == "train.optimizer_params" and value:
            for option, one in value.items():
                yield Setting(f"{full}.{option}", f"optimizer_params.{option}", one)
        elif isinstance(value, Mapping) and value and (full not in TABLE or full == "train.lr_scheduler_params"):
            yield from _flat(value, f"{full}.")
        else:
            yield Setting(full, full, value)


def _data_sets(data_sets: Sequence[Mapping]) -> list[Setting]:
    """Return the settings of all data sets; the first that is no regularisation counts."""
    settings = []
    first = next((one for one in data_sets if not one.get("is_reg")), None)
    for number, one in enumerate(data_sets):
        for name, value in one.items():
            key = f"dataset.{name}" if one is first else "another_dataset"
            if one.get("is_reg"):
                key = "reg_folder" if name in ("folder_path", "dataset_path") else "dataset.is_reg"
            settings.append(Setting(f"datasets.{number}.{name}", key, value))
    return settings


def _samples(sample: Mapping[str, Any], word: str) -> list[Setting]:
    """Return the settings of samples; prompts become lines with their options."""
    settings = []
    for name, value in sample.items():
        if name in ("prompts", "samples"):
            items = [one if isinstance(one, Mapping) else {"prompt": one} for one in value or []]
            lines = [_line(one, sample, number, word) for number, one in enumerate(items)]
            settings.append(Setting(f"sample.{name}", f"sample.{name}", lines, read=value))
        else:
            settings.append(Setting(f"sample.{name}", f"sample.{name}", value))
    return settings


def _line(item: Mapping[str, Any], sample: Mapping[str, Any], number: int, word: str) -> str:
    """Return a prompt as a line; the trigger in front is put there by the template."""
    text = " ".join(str(item.get("prompt") or "").split())
    start = next((mark for mark in ("[trigger]", "[name]", word) if mark and text.startswith(mark)), "")
    text = text[len(start) :].lstrip(" ,") if word else text
    text = text.replace("[trigger]", word).replace("[name]", word).strip()
    options = {key: item.get(key, sample.get(key)) for key in _LETTERS}
    if sample.get("walk_seed") and options["seed"] is not None and "seed" not in item:
        options["seed"] = int(options["seed"]) + number
    words = [f"--{_LETTERS[key]} {value}" for key, value in options.items() if value not in (None, "", False)]
    return " ".join([text, *words]) if text else ""
