"""Reads a TOML of kohya's sd-scripts, with the data set config that it names, as settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stylelora.migration import captions
from stylelora.migration.kohya import DEFAULTS, TABLE
from stylelora.migration.layers import LYCORIS
from stylelora.migration.optimizers import pairs
from stylelora.migration.rows import Setting, Settings
from stylelora.records import InputError
from stylelora.texts import parse_toml, printable, read_text

#: Name in a data set config -> name of the command line.
RENAMED = {"batch_size": "train_batch_size"}
LISTS = ("network_args", "optimizer_args")
#: What a setting or a base's name says of its kind.
OTHERS = {
    "SDXL": ("sdxl", "stable-diffusion-xl", "sd_xl", "illustrious", "pony", "noobai"),
    "FLUX": ("flux",),
    "SD 3": ("sd3", "stable-diffusion-3"),
}
_NETWORKS = ("networks.lora", *LYCORIS)
_REPEATS = re.compile(r"(\d+)_(.+)")


def is_kohya(config: Mapping) -> bool:
    """Return whether a TOML holds settings of sd-scripts."""
    names = {name for _, name, _ in _sections(config)}
    return len(names & TABLE.keys()) >= min(3, len(names))


def read(config: Mapping, path: Path) -> list[Setting]:
    """Return the settings of a TOML, and kohya's defaults of what it does not have.

    Args:
        config: content of the file.
        path: of the file; what it names is looked for beside it, too.

    Raises:
        InputError: if it trains something else, or a file that it names is not there.
    """
    if "datasets" in config and not {"pretrained_model_name_or_path", "network_dim", "learning_rate"} & {
        name for _, name, _ in _sections(config)
    }:
        raise InputError(f"{path} is only a data set config; give the TOML of the training, which names it")
    settings: list[Setting] = []
    for section, name, value in _sections(config):
        shown = f"{section}.{name}" if section else name
        if name in LISTS:
            settings += pairs(shown, name, value) or [Setting(shown, name, value)]
        elif name == "datasets":
            settings += data_sets(config)
        else:
            settings.append(Setting(shown, RENAMED.get(name, name) if section == "general" else name, value))
    if file := Settings(settings).get("dataset_config"):
        settings += data_sets(toml(beside(str(file), path)), general=True)
    settings = with_defaults(settings, path)
    refuse_others(Settings(settings), path)
    return settings


def with_defaults(settings: Sequence[Setting], path: Path) -> list[Setting]:
    """Return kohya's defaults and what follows from the file, then the settings of the file."""
    known = Settings(settings)
    length = {"max_train_steps"} if known.number("max_train_epochs") else set()
    rates = {"learning_rate"} if known.get("unet_lr") is not None and known.on("network_train_unet_only") else set()
    absent = {
        key: value
        for key, value in DEFAULTS.items()
        if known.get(key) is None and key not in length | rates and not (key == "optimizer_type" and key in known)
    }
    folder = str(known.get("image_dir") or known.get("train_data_dir") or "")
    absent[captions.ON_DISK] = found = captions.read(folder)
    prefix = str(known.get("caption_prefix") or "").split(",")[0].strip()
    named = known.get("class_tokens") or trigger_of(folder, str(known.get("output_name") or path.stem))
    absent["trigger word"] = prefix or found.trigger(str(named))
    if known.get("loss_type") in ("huber", "smooth_l1") and known.get("huber_schedule") is None:
        absent["huber_schedule"] = "snr"
    if not known.number("sample_every_n_epochs") and not known.number("sample_every_n_steps"):
        absent["sheets of samples"] = None
    return [Setting(key, key, value, given=False) for key, value in absent.items()] + list(settings)


def trigger_of(folder: str, name: str) -> str:
    """Return the words of a `10_name` folder, be it this one or below it; the run's name where there is none."""
    path = Path(folder)
    inside = sorted(one.name for one in path.iterdir() if one.is_dir()) if folder and path.is_dir() else []
    words = [found.group(2) for one in (path.name, *inside) if (found := _REPEATS.fullmatch(one))]
    return words[0] if words else name


def refuse_others(settings: Settings, path: Path) -> None:
    """Refuse what is no LoRA training of SD 1.x or 2.x.

    Raises:
        InputError: if it is none.
    """
    base = str(settings.get("pretrained_model_name_or_path", "")).lower()
    module = str(settings.get("network_module", "networks.lora"))
    for kind, marks in OTHERS.items():
        if any(mark in base for mark in marks) or module in (f"networks.lora_{marks[0]}", f"networks.oft_{marks[0]}"):
            raise InputError(f"{path} trains {kind}; fit trains Stable Diffusion 1.x and 2.x only")
    algorithm = str(settings.get("network_args.algo", "lora")).lower()
    if module not in _NETWORKS or algorithm not in ("lora", "locon"):
        kind = f"{module}, {algorithm}" if module in _NETWORKS else module
        raise InputError(f"{path} does not train a LoRA but {kind}; fit trains LoRA and LoCon (networks.lora) only")


def _sections(config: Mapping) -> Iterable[tuple[str, str, Any]]:
    """Yield (section, name, value); kohya joins all sections into one."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from ((name, inner, one) for inner, one in value.items())
        else:
            yield "", name, value


def data_sets(config: Mapping, general: bool = False) -> list[Setting]:
    """Return the settings of a data set config, those that count last."""
    settings = []
    if general:
        settings += [_setting(f"general.{name}", value) for name, value in config.get("general", {}).items()]
    for number, data_set in enumerate(config.get("datasets", [])):
        prefix, subsets = f"datasets.{number}", data_set.get("subsets", [])
        own = {name: value for name, value in data_set.items() if name != "subsets"}
        settings += [
            _setting(f"{prefix}.{name}", value, "another_subset" * bool(number)) for name, value in own.items()
        ]
        whole = _joined(subsets) if not number else None
        first = next((one for one in subsets if not one.get("is_reg")), None) if not number else None
        for place, subset in enumerate(subsets):
            for name, value in subset.items():
                shown = f"{prefix}.subsets.{place}.{name}"
                if subset.get("is_reg") and not number:
                    key = {"image_dir": "reg_data_dir", "class_tokens": "reg_class_tokens"}.get(name, "is_reg")
                elif whole and name in ("image_dir", "num_repeats"):
                    folder = name == "image_dir"
                    key = name if folder else "named repeats"
                    settings.append(Setting(shown, key, whole if folder else value, read=value))
                    continue
                else:
                    key = "" if subset is first or whole else "another_subset"
                settings.append(_setting(shown, value, key))
    return settings


def _setting(shown: str, value: Any, key: str = "") -> Setting:
    name = shown.rsplit(".", 1)[1]
    return Setting(shown, key or RENAMED.get(name, name), value)


def _joined(subsets: Sequence[Mapping]) -> str | None:
    """Return the folder above several subsets whose names say how often they are repeated."""
    own = [Path(str(one.get("image_dir", ""))) for one in subsets if not one.get("is_reg")]
    repeats = [one.get("num_repeats", 1) for one in subsets if not one.get("is_reg")]
    named = all(path.name.startswith(f"{count}_") for path, count in zip(own, repeats, strict=True))
    return str(own[0].parent) if len(own) > 1 and named and len({path.parent for path in own}) == 1 else None


def beside(file: str, path: Path) -> Path:
    """Return a file that a config names: as it stands, or beside the config.

    Raises:
        InputError: if it is at neither place.
    """
    places = [Path(file), path.parent / file, path.parent / Path(file.replace("\\", "/")).name]
    if found := next((place for place in places if place.is_file()), None):
        return found
    raise InputError(f"{path} names the data set config {file}, which is not there; put it beside {path.name}")


def toml(path: Path) -> dict:
    """Read a TOML.

    Raises:
        InputError: if it is none.
    """
    return parse_toml(read_text(path), printable(path))
