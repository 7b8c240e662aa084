"""What a program says to its user: no noise, and errors in a sentence."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
import warnings

from stylelora.records import InputError

USAGE = """usage: python cli.py VERB --config FILE [--section.option VALUE ...]
Style LoRAs for Stable Diffusion: one adapter per art style.
  fit       train; sample and score every epoch     python cli.py fit --config configs/quickstart.yaml
  validate  sample and score a checkpoint           python cli.py validate --config FILE --ckpt_path CHECKPOINT
  predict   make pictures of blended styles         python cli.py predict --config configs/compose/FILE
  test      measure adapters and blends             python cli.py test --config configs/evaluate/FILE
  preprocess  make a raw folder a training set      python cli.py preprocess --source DIR --style NAME
  merge     blend LoRA files into one               python cli.py merge --adapters A B --weights 0.6 0.4 --output C
  interference  compare two LoRA files              python cli.py interference --adapters A B --weights 0.6 0.4
  compare   finished tests, picture by picture      python cli.py compare --runs A B
  study     run what a question needs, print tables python cli.py study --question styles
options: python cli.py fit --help, python cli.py fit --model.help lightning_modules.StyleLoRA; configs/README.md"""


def quiet() -> None:
    """Filter messages of the libraries below, for programs; as a library this package changes no filters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar for each load of a 30 ms model
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    rank_zero.addFilter(lambda record: "Tip:" not in record.getMessage())  # an advertisement
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 calls what torch 2.13 deprecates
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # tensors in memory need none
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # small sets have few steps


def call(module: str, name: str, words: list[str]) -> None:
    """Run a function of ours as a program, its parameters as options, its docstring as the help.

    Args:
        module: where it is.
        name: of the function, and of the verb.
        words: the command line after the verb.
    """
    from jsonargparse import auto_cli

    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    function = getattr(importlib.import_module(module), name)
    try:
        auto_cli(function, _lists(words), as_positional=False, exit_on_error=False, prog=f"cli.py {name}")
    except OSError as error:
        raise InputError(f"{error.strerror or error}: {error.filename or 'while working'}") from error
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on where it was")


def _lists(words: list[str]) -> list[str]:
    """Let an option be followed by several values, `--weights 0.6 0.4`, which jsonargparse takes as one JSON list."""
    joined: list[str] = []
    values: list[str] = []
    for word in [*words, "--"]:
        if word.startswith("--"):
            joined += values if len(values) < 2 else [json.dumps(values)]
            values = []
            joined.append(word)
        else:
            values.append(word)
    return joined[:-1]


def sentence(error: Exception) -> str:
    """Return what is wrong in one line, for errors that are the user's; raise any other again.

    Args:
        error: an InputError or what was raised from one, or what jsonargparse says of a command line or a config, of
            which the lines that list what it tried are left out.
    """
    if not isinstance(error, argparse.ArgumentError):
        return str(InputError.within(error))
    noise = ("Does not validate", "Subtypes:", "Errors:", "- Expected a <class 'NoneType'>", "Given value")
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line.removeprefix("- ") for line in lines if line and not line.startswith(noise))
