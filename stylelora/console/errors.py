"""Errors of a command line or a config, in one plain sentence instead of the parser's."""

from __future__ import annotations

import argparse
import errno
import importlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence

from stylelora.console.checks import meant
from stylelora.console.renamed import new_option, new_place
from stylelora.console.screens import options_of
from stylelora.console.settings import about_settings
from stylelora.console.verbs import SECTIONS, TRAINER
from stylelora.files import is_of_the_machine, reason
from stylelora.records import InputError, on_one_line

REFUSED = re.compile(
    r"Option '([\w.]+)' is not accepted|not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)"
)
OWNER = re.compile(r"class_path '([\w.]+)'")
NO_CLASS = re.compile(r"has no attribute|No module named|Expected a dot import path string|not enough values")
KEY = re.compile(r'Parser key "([\w.]+)"')
EXPECTED = re.compile(r"Expected (?:an? )?(?:<class '(\w+)'>|typing\.Literal\[(.*?)\])")
VALUE = re.compile(r"(?:Got|Given) value: (.*)")
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "list": "a list"}
HOMES = {"model": "lightning_modules", "data": "datamodules"}
SECTION_NAMES = sorted(
    {option[2:].split(".")[0] for option in TRAINER if "." in option}
    | {section for groups in SECTIONS.values() for (section, _), _ in groups}
    | {"checkpoint", "last_checkpoint", "sample_images", "save_adapter", "write_result"}
)
TOLD = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS)
#: Module of an optional package -> its name for pip.
PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "lion_pytorch": "lion-pytorch",
    "prodigyopt": "prodigyopt",
    "pytorch_optimizer": "pytorch-optimizer",
    "schedulefree": "schedulefree",
    "wandb": "wandb",
}


def sentence(error: Exception, words: Sequence[str], function: str | None = None) -> str:
    """Return a user's error as one line; raise any other error again.

    Args:
        error: an InputError or what was raised from one; what jsonargparse says of a command line or a config, of which
            the lines that list what it tried are left out; or what Lightning says of a machine that lacks something.
        words: the command line.
        function: module of the function behind the verb; None: Lightning runs it.
    """
    return on_one_line(_sentence(error, words, function))


def _sentence(error: Exception, words: Sequence[str], function: str | None) -> str:
    message = str(error)
    if package := next((name for name in PACKAGES if f"{name}." in message and not _is_installed(name)), None):
        return f"{package} is not installed; install it with: pip install {PACKAGES[package]}"
    if lacking := re.search(r"Requirement '.*' not met.*", message):
        return lacking.group()
    if not isinstance(error, argparse.ArgumentError | InputError) and (said := about_settings(error)):
        return said
    if not isinstance(error, argparse.ArgumentError):
        return refused_by_the_system(error) or str(InputError.within(error))
    if refused := REFUSED.search(message):
        return _unknown(next(filter(None, refused.groups())), OWNER.findall(message), words[0], function)
    if place := new_place(message):
        return place
    if NO_CLASS.search(message):
        return _no_class(message)
    if KEY.search(message) and EXPECTED.search(message):
        return _mistyped(message)
    if required := re.search(r"arguments are required: (.+)", message):
        names = required.group(1).replace(f"{words[0]}.", "").split(", ")
        if function is None:
            return f"there is no {' and no '.join(names)}; name a config with --config, such as configs/quickstart.yaml"
        given = " and ".join(f"--{name}" for name in names)
        return f"{given} is missing; python cli.py {words[0]} --help shows an example"
    if stray := re.search(r"unrecognized arguments: (.+)", message):
        return f"{stray.group(1)} does not belong to an option"
    if empty := re.search(r"argument (--[\w.]+): expected one argument", message):
        return f"{empty.group(1)}, or an option that begins with it, has no value"
    return " ".join(message.split())


def refused_by_the_system(error: BaseException) -> str | None:
    """Return a sentence if what lies behind an error is a full disk, a denied access or the like, with the path."""
    chain = [*_behind(error, "__context__")]  # whatever is said of a file that could not be opened or written
    if said := next(filter(None, (reason(cause) for cause in chain if is_of_the_machine(cause))), None):
        return said
    # Libraries in other languages, and workers, tell it as a text.
    if told := [code for code in TOLD if any(os.strerror(code) in str(cause) for cause in chain)]:
        return reason(OSError(told[0], ""))
    for cause in _behind(error, "__cause__"):
        if isinstance(cause, InputError):
            return None  # says it better
        if isinstance(cause, OSError) and (said := reason(cause)):
            return said
    return None


def _behind(error: BaseException | None, link: str) -> Iterator[BaseException]:
    seen: set[int] = set()  # causes and contexts together can form a circle
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or getattr(error, link)


def _is_installed(module: str) -> bool:
    try:
        return bool(importlib.import_module(module))
    except ImportError:
        return False


def _mistyped(message: str) -> str:
    """Return a sentence about a value of the wrong type."""
    *_, last = KEY.finditer(message)
    keys = KEY.findall(message)
    inner = message[last.end() :]
    wanted = [
        TYPES.get(kind, kind) if kind else " or ".join(choices.replace("'", "").split(", "))
        for kind, choices in EXPECTED.findall(inner)
        if kind != "NoneType"
    ]
    value = found.group(1) if (found := VALUE.search(inner)) else "something else"
    renamed = f"; {value} is now called {new_option(value)}" if new_option(value) in " ".join(wanted).split() else ""
    said = f"{'.'.join(keys)} is {value}; give {' or '.join(dict.fromkeys(wanted))}{renamed}"
    if TYPES["list"] in wanted or TYPES["str"] in wanted:
        if set(value) & set("{}:"):  # YAML reads them as a mapping
            return f'{said}, and put a text with braces or a colon into quotes, as in ["a fox: red"]'
        if TYPES["list"] in wanted and value[:1] not in "[":
            return f"{said}, as in [{value}]"
    return said


def _no_class(message: str) -> str:
    """Return a sentence about a class that does not exist."""
    section = found[0] if (found := KEY.findall(message)) else ""
    path = OWNER.findall(message)[-1:] or re.findall(r"path string: (\S+)", message) or ["of that name"]
    module, _, name = path[0].rpartition(".")
    home = module or HOMES.get(section, "")
    try:
        known = [*importlib.import_module(home).__all__]
    except ImportError as error:
        if not f"{home}.".startswith(f"{error.name}."):  # it exists, but something that it needs does not
            return f"{home} cannot be imported: {error}"
        known = []
    except (AttributeError, ValueError):
        known = []
    if name in known:
        return " ".join(message.split())
    more = f"; {home} has {', '.join(known)}" if known else ""
    return f"there is no class {path[0]}{meant(name, known) or more}"


def _unknown(name: str, owners: list[str], verb: str, function: str | None) -> str:
    """Return a sentence about an unknown option: its new name, or a similar one."""
    section, dot, last = name.rpartition(".")
    if new := new_option(name):
        return f"{name!r} is now called '{section}{dot}{new}'"
    who = f"python cli.py {verb}"
    if owners:
        module, _, who = owners[-1].rpartition(".")
        known = list(inspect.signature(getattr(importlib.import_module(module), who)).parameters)
    elif dot and section.split(".")[0] not in SECTION_NAMES:
        first = name.split(".")[0]
        return f"{who} has no section {first!r}{meant(first, SECTION_NAMES)}"
    else:
        options = [*TRAINER] if function is None else [option.name for option in options_of(f"{function}.{verb}")]
        known = [option.removeprefix(f"--{section}.").removeprefix("--") for option in options]
    return f"{who} has no option {name!r}{meant(last, known, section + dot)}"
