"""What a checkpoint says of the run it is of, and which settings may change when a run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stylelora.base.same_base import hash_of_weights
from stylelora.precision import SHORT
from stylelora.records import InputError, Picture

#: Options of the trainer that decide what is trained. The others are taken as they are now.
TRAINER = {
    f"trainer.{name}"
    for name in (
        "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches",
        "overfit_batches",
    )
}  # fmt: skip
#: Settings of model and data that change nothing of what is trained, or whose effect is compared itself.
HARMLESS = {
    "model.base", "model.num_inference_steps", "model.guidance_scale", "model.start", "model.keep",
    "model.sample_every_n_epochs", "model.keep_share", "model.gradient_checkpointing", "model.compile", "data.root",
    "data.held_out", "data.prompts", "data.prompts_file", "data.negative_prompt", "data.samples_per_prompt",
    "data.sample_batch_size", "data.cache", "data.num_workers", "data.masks", "data.trigger", "data.template",
    "data.interpolation", "data.name", "data.pictures", "data.pictures_seed", "data.prior.root",
    "data.prior.prompt", "data.prior.count",
}  # fmt: skip
#: Settings that decide which weights there are, or where they started; a checkpoint's are these.
FIXED = (
    "model.rank", "model.target_modules", "model.init_from", "model.lora.rank_pattern",
    "model.lora.init_lora_weights", "model.text_encoder.rank", "model.text_encoder.target_modules",
)  # fmt: skip
#: Settings that belong to an adapter, whatever is done with it.
ADAPTER = (
    *FIXED, "model.alpha", "model.lora.alpha_pattern", "model.lora.use_rslora", "model.text_encoder.alpha",
    "model.base_weights",
)  # fmt: skip
PLACES = ("default_root_dir", "dirpath", "save_dir", "config", "ckpt_path")  # of no meaning elsewhere

Changes = dict[str, tuple[Any, Any]]


def settings_of_run(config: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """Return every setting by its name on the command line, such as `model.optimizer.lr`.

    `model.optimizer` is the name of the class. `data.batch_size` is that of all devices together.

    Args:
        config: settings as plain values.
        devices: number of devices.
    """
    settings = dict(_flat(config))
    if "data.batch_size" in settings:
        settings["data.batch_size"] *= devices
    if "trainer.precision" in settings:
        given = str(settings["trainer.precision"])
        settings["trainer.precision"] = SHORT.get(given, given)
    return settings


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, one in value.items():
        if key in PLACES:
            continue
        inner = name if key in ("class_path", "init_args", "dict_kwargs") and name else f"{name}.{key}".lstrip(".")
        yield from _flat(one, inner)


def settings_of_data(model: Any, data: Any) -> dict[str, Any]:
    """Return what a data module found, in words of settings: it may have changed though the options are the same.

    Args:
        model: module; the weights of its base count, wherever they come from.
        data: data module that has scanned its folder; others have none of these.
    """
    found: dict[str, Any] = {}
    if (unet := getattr(model, "unet", None)) is not None:
        found["model.base_weights"] = hash_of_weights(unet)
    if (prior := getattr(data, "prior", None)) is not None:
        dataset = data.dataset
        masks = dataset.masks.sources if dataset.masks else {}
        found["data.pictures"] = _pictures(dataset.train, masks)
        found["data.held_out_pictures"] = _pictures(dataset.held_out, masks)
        found |= {"data.trigger": data.trigger, "data.template": dataset.wording.template}
        found["data.interpolation"] = dataset.framing.interpolation
        if prior.pictures:
            found["data.prior.pictures"] = _pictures(prior.pictures)
    return found


def _pictures(pictures: Collection[Picture], masks: Mapping[Path, str] | None = None) -> str:
    rows = [[one.sha256, one.repeats, (masks or {}).get(one.path), *one.texts] for one in pictures]
    return f"{len(rows)} pictures ({hashlib.sha256(repr(rows).encode()).hexdigest()[:12]})"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Return what differs, by name; where a class does, its options are not compared."""
    found: Changes = {}
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) and not any(name.startswith(f"{one}.") for one in found):
            found[name] = before.get(name), now.get(name)
    return found


def serious(found: Changes) -> Changes:
    """Return those changes of settings that nobody makes without saying so, for they change what is trained."""
    return {name: values for name, values in found.items() if not _is_harmless(name, values[1])}


def _is_harmless(name: str, now: Any) -> bool:
    if name == "model.init_from":
        return now is None  # the file, which may be gone, has been read
    if name.startswith("trainer."):
        return name not in TRAINER
    return name in HARMLESS or name.split(".")[0] not in ("model", "data", "seed_everything")


def check_changes(found: Changes, allowed: Collection[str]) -> None:
    """Refuse settings that differ from the checkpoint's, unless they are allowed.

    Args:
        found: what differs, and is no harmless change.
        allowed: names of settings, or their ends, or of groups of them; or `all`.

    Raises:
        InputError: if some are not allowed, or cannot be.
    """
    if fixed := {name: values for name, values in found.items() if name == "model" or _named(name, FIXED)}:
        raise InputError(
            f"the checkpoint's weights are those of other settings: {_shown(fixed)}; go on with these, or train anew, "
            "with --model.init_from to begin at its LoRA"
        )
    refused = {name: values for name, values in found.items() if not ("all" in allowed or _named(name, allowed))}
    if refused:
        raise InputError(
            f"settings differ from those of the checkpoint: {_shown(refused)}; go on with these, or allow the new "
            f"ones: --resume_allow {','.join(refused)}"
        )


def check_adapter(found: Changes) -> None:
    """Refuse settings with which a checkpoint's adapter would be another.

    Raises:
        InputError: if there are.
    """
    if wrong := {name: values for name, values in found.items() if name == "model" or _named(name, ADAPTER)}:
        raise InputError(
            f"the checkpoint's adapter is one of other settings: {_shown(wrong)}; take the config.yaml of its run"
        )


def check_names(names: Iterable[str], settings: Iterable[str]) -> None:
    """Refuse names of settings that there are not.

    Raises:
        InputError: if there are any.
    """
    from stylelora.console.checks import meant

    settings = list(settings)
    for name in names:
        if name != "all" and not any(_named(one, [name]) for one in settings):
            raise InputError(f"--resume_allow names {name}, which is no setting of this run{meant(name, settings)}")


def said(found: Changes) -> str:
    """Return changes as one line, such as `trainer.max_epochs 20 (was 10)`; "" if there are none."""
    return ", ".join(f"{name} {_short(now)} (was {_short(before)})" for name, (before, now) in found.items())


def _named(name: str, names: Iterable[str]) -> bool:
    """Return whether names have a setting, its end, or the group that it is in."""
    return any(f".{name}.".endswith(f".{one}.") or f"{name}.".startswith(f"{one}.") for one in names)


def _shown(found: Changes) -> str:
    parts = [f"{name} {_short(before)}, now {_short(now)}" for name, (before, now) in found.items()]
    return "; ".join(parts[:8]) + (f"; and {len(parts) - 8} more" if len(parts) > 8 else "")


def _short(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
