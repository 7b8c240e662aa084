"""An optimiser or a schedule that the command line puts in the place of a config's has options of its own."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylelora.console.checks import pairs
from stylelora.texts import read_yaml


def own_defaults(config: Any, words: Sequence[str]) -> None:
    """Give classes that the command line names their own defaults, where the parser leaves them the config's options.

    `--model.optimizer prodigyopt.Prodigy` over a config with AdamW would else train with AdamW's learning rate and
    betas. What is changed is said.

    Args:
        config: parsed command line; changed in place.
        words: the command line; what it gives stays.
    """
    options = {option: value for option, value in pairs(words) if option.startswith("--model.")}
    given = {option.removeprefix("--model.").replace("init_args.", ""): value for option, value in options.items()}
    for name in ("optimizer", "lr_scheduler"):
        now = (getattr(config.get("model"), "init_args", None) or {}).get(name)
        value = given.get(name, "")
        if now is None or not value or "{" in value or Path(value).is_file():  # a whole setting stands for itself
            continue
        before = _class_of_config(config.get("config") or [], name)
        if before in (None, now.class_path):
            continue
        module, _, kind = now.class_path.rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), kind)).parameters
        for key in [*now.init_args.keys()]:
            default = parameters[key].default if key in parameters else inspect.Parameter.empty
            if f"{name}.{key}" not in given and default is not inspect.Parameter.empty:
                now.init_args[key] = default
        shown = ", ".join(f"{key} {one}" for key, one in now.init_args.items() if one is not None)
        print(f"model.{name} is {now.class_path} with {shown}; options of {before} do not apply", file=sys.stderr)


def _class_of_config(files: Sequence[Any], name: str) -> str | None:
    """Return the class that the last of several configs gives the model for a name; None if none does."""
    for file in reversed(files):
        model = (read_yaml(Path(str(file))) or {}).get("model") or {}
        made = (model.get("init_args") or {}).get(name)
        if isinstance(made, dict):
            return made.get("class_path")
    return None
