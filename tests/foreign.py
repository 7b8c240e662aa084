"""Configs of other trainers in tests/configs/foreign, read without the program that is tested."""

import json
import tomllib

import torch
import yaml

from stylelora.studies.check import parser_alone
from tests.runs import ROOT

FOLDER = ROOT / "tests" / "configs" / "foreign"
FILES = sorted(path for path in FOLDER.iterdir() if not path.name.endswith("_dataset.toml"))
#: What one key of a file holds several settings of.
LISTS = ("network_args", "optimizer_args")


def content(path):
    """A file as its own format reads it."""
    text = path.read_text()
    return {".toml": tomllib.loads, ".json": json.loads, ".yaml": yaml.safe_load}[path.suffix](text)


def leaves(value, name=""):
    """(dotted name, value) of everything in a file that is no mapping or list of mappings."""
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from leaves(one, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            yield from leaves(one, f"{name}.{number}")
    elif name.split(".")[-1] in LISTS and value:
        for word in value if isinstance(value, list) else value.split():
            yield f"{name}.{word.split('=')[0]}", word.split("=")[1]
    else:
        yield name, value


def named(path):
    """The names of all settings of a file, and of the data set config that it names."""
    names = [name for name, _ in leaves(content(path))]
    if path.suffix == ".toml":
        beside = path.with_name(path.stem.replace("_style", "_dataset") + ".toml")
        names += [name for name, _ in leaves(content(beside))] if beside.exists() else []
    if path.suffix == ".yaml":
        names = [name.removeprefix("config.process.0.").removeprefix("config.") for name in names]
    return names


def parse(path, *more):
    """What the real command line makes of a config, without building anything."""
    words = ["fit", f"--config={path}", *more]
    return parser_alone()(words, args=words).config["fit"]


def stand_in(module, name):
    """An optimiser of a package that is not installed: its arguments as their documentation has them."""

    class Named(torch.optim.AdamW):
        def __init__(
            self,
            params: object,
            lr: float = 1e-3,
            betas: tuple[float, float] = (0.9, 0.99),
            eps: float = 1e-8,
            weight_decay: float = 0.0,
            decouple: bool = True,
            d_coef: float = 1.0,
            use_bias_correction: bool = False,
            safeguard_warmup: bool = False,
        ) -> None:
            super().__init__(params, lr=min(lr, 1e-3), betas=betas, eps=eps, weight_decay=weight_decay)

    Named.__module__, Named.__name__, Named.__qualname__ = module, name, name
    return Named
