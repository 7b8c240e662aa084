"""Optimisers and schedules of the learning rate, by the names that other trainers give them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from stylelora.migration.rows import NAMELESS, Answer, Setting, Settings, Status, number, whole
from stylelora.records import InputError

SCHEDULE = "stylelora.schedules.Schedule"
PATH, INIT = "model.optimizer.class_path", "model.optimizer.init_args"
SHAPE = "model.lr_scheduler.init_args.shape"
#: Name in small letters, without separators -> class path.
CLASSES = {
    "adam": "torch.optim.Adam",
    "adamw": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD",
    "sgdnesterov": "torch.optim.SGD",
    "adafactor": "transformers.optimization.Adafactor",
    "adam8bit": "bitsandbytes.optim.Adam8bit",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "ademamix8bit": "bitsandbytes.optim.AdEMAMix8bit",
    "lion8bit": "bitsandbytes.optim.Lion8bit",
    "pagedadamw": "bitsandbytes.optim.PagedAdamW",
    "pagedadamw8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "pagedadamw32bit": "bitsandbytes.optim.PagedAdamW32bit",
    "pagedlion8bit": "bitsandbytes.optim.PagedLion8bit",
    "sgdnesterov8bit": "bitsandbytes.optim.SGD8bit",
    "lion": "lion_pytorch.Lion",
    "prodigy": "prodigyopt.Prodigy",
    "prodigyplusschedulefree": "prodigyplus.ProdigyPlusScheduleFree",
    "adamwschedulefree": "schedulefree.AdamWScheduleFree",
    "schedulefreeadamw": "schedulefree.AdamWScheduleFree",
    "radamschedulefree": "schedulefree.RAdamScheduleFree",
    "sgdschedulefree": "schedulefree.SGDScheduleFree",
    "schedulefreesgd": "schedulefree.SGDScheduleFree",
    "dadaptation": "dadaptation.experimental.DAdaptAdamPreprint",
    "dadaptadampreprint": "dadaptation.experimental.DAdaptAdamPreprint",
    "dadaptadagrad": "dadaptation.DAdaptAdaGrad",
    "dadaptadam": "dadaptation.DAdaptAdam",
    "dadaptadan": "dadaptation.DAdaptAdan",
    "dadaptadanip": "dadaptation.experimental.DAdaptAdanIP",
    "dadaptlion": "dadaptation.DAdaptLion",
    "dadaptsgd": "dadaptation.DAdaptSGD",
}
#: First part of a class path -> what to install; torch and transformers are there.
PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "lion_pytorch": "lion-pytorch",
    "prodigyopt": "prodigyopt",
    "prodigyplus": "prodigy-plus-schedule-free",
    "schedulefree": "schedulefree",
    "dadaptation": "dadaptation",
}
#: What the trainers set where the class has no such default.
NESTEROV = {"sgdnesterov": {"nesterov": True, "momentum": 0.9}, "sgdnesterov8bit": {"nesterov": True, "momentum": 0.9}}
#: Schedule of transformers and diffusers, which kohya takes, -> our shape.
SHAPES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "polynomial": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine",
}


def class_of(name: str) -> str:
    """Return the class path of an optimiser; a dotted name is one, another may be torch's, as kohya takes it.

    Raises:
        InputError: if there is no such optimiser.
    """
    if path := CLASSES.get(name.lower().replace("_", "").replace("-", "")) or ("." in name and name):
        return path
    import torch

    if not isinstance(getattr(torch.optim, name, None), type):
        raise InputError(f"{NAMELESS} is {name!r}, which is no optimiser known here; correct it")
    return f"torch.optim.{name}"


def optimizer(name: str, init_args: Mapping[str, Any] | None = None) -> Answer:
    """Return the options of an optimiser.

    Args:
        name: the trainer's name of it; "": AdamW.
        init_args: arguments that the trainer passes by itself.

    Raises:
        InputError: if there is no such optimiser.
    """
    path = class_of(name or "AdamW")
    options = {PATH: path} | {f"{INIT}.{key}": value for key, value in (init_args or {}).items()}
    package = PACKAGES.get(path.split(".")[0])
    return Answer(Status.TAKEN, f"pip install {package}" if package else "", options)


def finds_its_rate(name: str) -> bool:
    """Return whether an optimiser finds one learning rate for all weights by itself."""
    return name.lower().replace("_", "").startswith(("prodigy", "dadapt"))


def pairs(name: str, key: str, words: Any) -> list[Setting]:
    """Return the settings of a list such as `["weight_decay=0.1", "betas=0.9,0.99"]`, or of such words in one text.

    Args:
        name: what the file calls the list.
        key: prefix of the settings' keys.
        words: the list, the text, or nothing.

    Raises:
        InputError: for a word without a value.
    """
    words = words.replace('"', "").split() if isinstance(words, str) else words or []
    if not isinstance(words, list):
        raise InputError(f'{name} is {words!r}; it must be a list of texts, such as ["weight_decay=0.1"]')
    found = []
    for word in words:
        option, equals, text = str(word).partition("=")
        if not equals or not option.strip():
            raise InputError(f"{name} has {word!r}; write name=value")
        found.append(Setting(f"{name}.{option.strip()}", f"{key}.{option.strip()}", literal(text.strip().strip("\"'"))))
    return found


def literal(text: str) -> Any:
    """Return a Python value from its text, a list for several, and the text itself where it is none."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


def argument(setting: Setting, settings: Settings) -> Answer:
    """Return the option for an argument of the optimiser, which goes to the same class."""
    del settings
    return Answer(Status.TAKEN, "", {f"{INIT}.{setting.key.split('.', 1)[1]}": setting.value})


def shape(name: str, warmup: str) -> Answer:
    """Return the option for a schedule of transformers or diffusers.

    Args:
        name: such as `cosine_with_restarts`.
        warmup: the trainer's name of the warm-up.

    Raises:
        InputError: for an unknown one.
    """
    if name not in SHAPES:
        known = ", ".join(SHAPES)
        return Answer(
            Status.UNSUPPORTED,
            f"no such shape here, so the learning rate is constant; there are {known}, or give model.lr_scheduler a "
            f"class of torch.optim.lr_scheduler",
        )
    options = {"model.lr_scheduler.class_path": SCHEDULE, SHAPE: SHAPES[name]}
    notes = {"constant_with_warmup": f"constant after {warmup}", "cosine_with_restarts": "cosine, with cycles"}
    return Answer(Status.EQUIVALENT if name in notes else Status.TAKEN, notes.get(name, ""), options)


def rise(value: Any) -> float | None:
    """Return the warm-up of `Schedule` from steps, a share below 1, or a text such as `10%`; None for 0."""
    if isinstance(value, str) and value.endswith("%"):
        value = number(value[:-1]) / 100
    steps = number(value if value not in (None, "") else 0)
    return (whole(steps) if steps >= 1 else steps) or None
