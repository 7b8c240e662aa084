"""Text files that people give, and YAML, JSON and TOML in them: read with bounds, or refused in one sentence.

Whoever wrote such a file may have made any mistake, or mean harm: a named pipe that never ends, aliases that stand for
a billion values, brackets a million deep, one key twice. Everything here is read through these functions.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stylelora.records import InputError

MOST_BYTES = 2**29  # of a text file; a list of a million captions has half of it
MOST_VALUES = 10**5  # of YAML, each alias counted as what it stands for
DEEPEST = 100  # lists and mappings in one another
SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}
# What Python raises, beside their own errors, while a library reads YAML, JSON or TOML: `!!bool maybe`, `2026-99-99`, a
# number of 5000 digits, brackets without end.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def printable(path: Path | str) -> str:
    """Make a path printable on one line: escape newlines and invalid characters."""
    return str(path) if str(path).isprintable() else repr(str(path))


def quoted(text: str) -> str:
    """Quote a text for a message; of a long one its first 80 letters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def check_is_file(path: Path) -> None:
    """Check that a path, after its links, is a plain file; anything else may not end, or not be there.

    Raises:
        InputError: if it is not.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(path)} cannot be read ({why}); give a file that can") from error
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise InputError(f"{printable(path)} is a {SPECIAL.get(kind, 'something else')}, not a file; give a file")


def check_is_folder(path: Path, what: str) -> None:
    """Check that a path, after its links, is a folder.

    Args:
        path: of a folder.
        what: is in it, for errors.

    Raises:
        InputError: if it is not.
    """
    if not os.path.isdir(path):  # unlike Path.is_dir, never raises, be a name too long or a link its own target
        there = "is no folder" if os.path.lexists(path) else "does not exist"
        raise InputError(f"{what} {printable(path)} {there}; give one with pictures")


def read_text(path: Path) -> str:
    """Return a text file's content, without a byte order mark.

    Raises:
        InputError: if it is no plain file, too large, or not UTF-8.
    """
    check_is_file(path)
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{printable(path)} has {size} bytes, more than the {MOST_BYTES} of any text read here")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{printable(path)} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror}); make it readable") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path), printable(path))


def read_object(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        InputError: as `read_json`, or if it holds something else.
    """
    if not isinstance(found := read_json(path), dict):
        raise InputError(f"{printable(path)} holds {_called(found)}, not a mapping; correct it, or get it again")
    return found


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds; raises as `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path), printable(path))


def parse_json(text: str, name: str) -> Any:
    """Return what a JSON text holds.

    Args:
        text: the text.
        name: of it, for errors.

    Raises:
        InputError: if it is no JSON, a key is there twice, or a character is half of a pair.
    """
    return _parsed(lambda: json.loads(text, object_pairs_hook=_each_once), text, name, "JSON")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return what a TOML text holds; arguments and errors are as of `parse_json`."""
    import tomllib

    if re.search(rf"(?<![\w\"'-])(?:[\w\"'-]++\s*+\.\s*+){{{DEEPEST}}}", text):  # they take quadratic time
        raise InputError(f"{name} is not TOML that can be read: a key has more than {DEEPEST} parts")
    return _parsed(lambda: tomllib.loads(text), text, name, "TOML")


def parse_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds; arguments and errors are as of `parse_json`.

    Raises:
        InputError: also if it is deeper than 100, or longer than 100000 values, or stands for itself.
    """
    import yaml

    def load() -> Any:
        check_yaml(text)
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    return _parsed(load, text, name, "YAML")


def check_yaml(text: str) -> None:
    """Check, before values are made, that a YAML text is bounded, and that no mapping has a key twice.

    Raises:
        yaml.YAMLError: if not, or if it is no YAML.
    """
    import yaml

    sizes: dict[str, int] = {}  # anchor -> number of values that it stands for
    stack: list[tuple[str | None, int, set[str] | None]] = [(None, 0, None)]  # open nodes: anchor, values, keys
    size = 0
    position = [0]  # of each open node: values directly in it, of which every second one of a mapping is a key
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        mark, anchor = event.start_mark, getattr(event, "anchor", None)
        line = f"line {mark.line + 1}" if mark else "a line"
        if isinstance(event, yaml.CollectionEndEvent):
            opened, before, _ = stack.pop()
            position.pop()
            if opened is not None:
                sizes[opened] = size - before
        elif isinstance(event, yaml.NodeEvent):
            keys = stack[-1][2]
            if keys is not None and position[-1] % 2 == 0 and isinstance(event, yaml.ScalarEvent):
                if event.value in keys:
                    raise yaml.YAMLError(f"{line} has {event.value!r}, which is there before; keep one of them")
                keys.add(event.value)
            position[-1] += 1
            size += sizes.get(anchor, 0) if isinstance(event, yaml.AliasEvent) else 1
            if isinstance(event, yaml.AliasEvent) and any(anchor == opened for opened, *_ in stack[1:]):
                raise yaml.YAMLError(f"{line} has *{anchor} inside &{anchor}, so that it would never end")
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append((anchor, size - 1, set() if isinstance(event, yaml.MappingStartEvent) else None))
                position.append(0)
            elif isinstance(event, yaml.ScalarEvent) and anchor is not None:
                sizes[anchor] = 1
            if size > MOST_VALUES or len(stack) > DEEPEST:
                what = f"{DEEPEST} levels" if len(stack) > DEEPEST else f"{MOST_VALUES} values"
                raise yaml.YAMLError(f"{line} is beyond {what}, more than any file read here needs")


def check_letters(value: object) -> None:
    """Check that no text in a value has what only an escape can write: null characters, and halves of letters.

    Raises:
        ValueError: if one has.
    """
    if isinstance(value, str) and ("\0" in value or not is_text(value)):
        raise ValueError(f"{value[:40]!r} has characters that no text has; write others")
    for one in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_letters(one)


@contextmanager
def understood(name: str, advice: str) -> Iterator[None]:
    """Turn what goes wrong while fields of somebody else's file are looked up into a sentence about the file.

    For nothing but that: in wider use it would make sentences of our own defects.

    Args:
        name: of the file, and of the place in it if need be.
        advice: what to do.

    Raises:
        InputError: if a field is missing, or of another kind than it should be.
    """
    try:
        yield
    except InputError:
        raise
    except _MALFORMED as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError(f"{name} is not as it should be: {' '.join(missing.split())}; {advice}") from error


def _parsed(load: Callable[[], Any], text: str, name: str, kind: str) -> Any:
    import yaml

    try:
        found = load()
        if "\\" in text:
            check_letters(found)
    except (*_MALFORMED, yaml.YAMLError) as error:
        deep = isinstance(error, RecursionError)
        why = "it is too deep" if deep else " ".join(str(error).split()) or type(error).__name__
        why = re.sub(r'in "<\w+ string>", ', "at ", why)
        raise InputError(f"{name} is not {kind}: {why[:300]}") from error
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice; keep one of them")
    return found


def _called(value: object) -> str:
    kinds = {list: "a list", str: "a text", int: "a number", float: "a number", type(None): "nothing"}
    return kinds.get(type(value), "something else")


def is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8: names of files may hold bytes that are none."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
