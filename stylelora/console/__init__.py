"""The command line's side of the program: fast help, no noise, errors in one sentence."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import sys
import threading
import warnings

from stylelora.console.stopping import STOPPING
from stylelora.texts import check_letters, check_yaml

NOISE = (
    "Tip:",  # an advertisement
    "GPU available: False",
    "TPU available: False",
    "HPU available: False",
    "Loading `train_dataloader` to estimate",
    "`Trainer.fit` stopped: `max_epochs=",
)


def quiet() -> None:
    """Silence noisy messages of other libraries; only programs do, importing the package changes no filters."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar for each load of a 30 ms model
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_wanted)
    # PEFT loads it, and on some processors it misses an optional package, for layers of 4 bits, which none are here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    threading.excepthook = _said_elsewhere
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run.*")  # --help_all becomes --help
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 calls what torch 2.13 deprecates
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # the cache is read fast enough
    warnings.filterwarnings("ignore", message=".*across ranks is zero.*")  # held_out 0, which is said
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")  # of a run that is resumed
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")  # small sets have few steps


def _said_elsewhere(thread: threading.ExceptHookArgs) -> None:
    """Leave errors of the system, such as a full disk, to who waits for a thread: TensorBoard's raises them again."""
    if not isinstance(thread.exc_value, OSError):
        threading.__excepthook__(thread)


def _is_wanted(record: logging.LogRecord) -> bool:
    message = record.getMessage()  # some begin with a picture
    return not any(noise in message for noise in NOISE)


@functools.cache
def bound_yaml() -> None:
    """Let the parser of command lines refuse YAML as all of the program does: keys given twice, or without bounds."""
    import yaml
    from jsonargparse import get_loader, set_loader

    load = get_loader("yaml")

    def bounded(text: str) -> object:
        if any(mark in text for mark in "{[\n"):  # one word needs no check
            check_yaml(text)
        try:
            value = load(text)
            if "\\" in text:
                check_letters(value)
            return value
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # `!!bool maybe`
            raise yaml.YAMLError(" ".join(str(error).split())) from error

    set_loader("yaml", bounded, (yaml.YAMLError,))


def call(module: str, name: str, words: list[str]) -> None:
    """Run one of our functions as a program: parameters become options, the docstring the help.

    Values before any option are the first parameter's, as in `convert FILE --output OUT`.

    Args:
        module: where it is.
        name: of the function, and of the verb.
        words: the command line after the verb.
    """
    from jsonargparse import auto_cli

    STOPPING.advice = "run the same command again to continue"
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    function = getattr(importlib.import_module(module), name)
    if words and not words[0].startswith("-"):
        words = [f"--{next(iter(inspect.signature(function).parameters))}", *words]
    options = {"as_positional": False, "exit_on_error": False, "allow_abbrev": False, "prog": f"cli.py {name}"}
    auto_cli(function, _lists(words), **options)


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
