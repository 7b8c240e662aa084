"""Rows of the tables: what becomes of one setting of another trainer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from stylelora.records import InputError

#: Values of a setting that is not used.
OFF = (None, False, "", 0, "0", "none", "None", [], {})
NAMELESS = "a setting"  # in errors about a value, until its setting is known
_SECRET = re.compile(r"token$|api_key|secret|password", re.I)


class Status(StrEnum):
    """What became of a setting, in the order of the report."""

    TAKEN = "taken over"
    EQUIVALENT = "equivalent"
    IGNORED = "ignored"
    UNSUPPORTED = "not supported"
    UNKNOWN = "unknown"
    OFF = "not used"


@dataclass(frozen=True)
class Setting:
    """One setting of a file.

    Attributes:
        name: what the file calls it, such as `optimizer_args.weight_decay`.
        key: row of the table that it belongs to.
        value: as read.
        given: whether the file has it; otherwise it is the other program's default, or follows from another setting.
        read: the value as the file has it, where the trainer itself makes another of it.
    """

    name: str
    key: str
    value: Any
    given: bool = True
    read: Any = None

    def shown(self) -> str:
        """Return `name = value`, shortened, without secrets."""
        text = json.dumps(self.value if self.read is None else self.read, ensure_ascii=False, default=str)
        if self.value not in OFF and _SECRET.search(self.name):
            text = "(hidden)"
        return f"{self.name} = {text if len(text) <= 60 else text[:57] + '...'}"


@dataclass(frozen=True)
class Answer:
    """What becomes of one setting.

    Attributes:
        status: see Status.
        note: how, why, or what to do.
        options: our options -> values, such as `model.rank`.
        prompts: lines for a file of prompts; it is written beside the config.
    """

    status: Status
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: Sequence[str] = ()


#: What becomes of a setting that is off, as it is here.
UNUSED = Answer(Status.OFF)


class Settings:
    """All settings of a file and the defaults of the rest, by key; the last one of a key counts."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.all = list(settings)
        self._last = {setting.key: setting for setting in self.all}

    def __contains__(self, key: str) -> bool:
        return key in self._last

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; the default if it is absent, null or an empty text."""
        setting = self._last.get(key)
        return default if setting is None or setting.value in (None, "") else setting.value

    def on(self, key: str) -> bool:
        """Return whether a switch is on."""
        return key in self._last and yes(self._last[key].value, self._last[key].name)

    def number(self, key: str, default: float | None = None) -> float | None:
        """Return a number; the default where there is none."""
        setting = self._last.get(key)
        if setting is None or setting.value in (None, ""):
            return default
        return number(setting.value, setting.name)

    def replaced_by(self, setting: Setting) -> Setting | None:
        """Return the setting that counts instead of this one, None if it counts itself."""
        last = self._last[setting.key]
        return None if last is setting else last


Convert = Callable[[Any, Settings], Any]


@dataclass(frozen=True)
class Row:
    """What becomes of a setting as a rule; the docs show it.

    Attributes:
        status: see Status.
        ours: our option, such as `model.rank`; or several, for the reader, where `convert` gives an Answer.
        note: how it is equivalent, why it is ignored, or what to do.
        convert: value and all settings -> the value of our option, None to leave it at its default, or an Answer.
        off: values that mean what is done here; for what is not supported otherwise.
        many: whether a file may have several, which all count.
    """

    status: Status
    ours: str = ""
    note: str = ""
    convert: Convert = lambda value, settings: value
    off: tuple = ()
    many: bool = False

    def answer(self, setting: Setting, settings: Settings) -> Answer:
        """Return what becomes of a setting.

        Raises:
            InputError: if its value makes no sense.
        """
        if self.status is Status.IGNORED:
            return Answer(self.status, self.note)
        is_off = any(same(setting.value, off) for off in OFF)
        if self.status is Status.UNSUPPORTED and is_off:
            return UNUSED
        if any(same(setting.value, off) for off in self.off):
            return Answer(Status.TAKEN, "as here")
        try:
            found = self.convert(setting.value, settings)
        except InputError as error:
            raise InputError(str(error).replace(NAMELESS, setting.name, 1)) from error
        except (ValueError, TypeError, SyntaxError, AttributeError, LookupError, ArithmeticError) as error:
            raise InputError(f"{setting.shown()} makes no sense; correct it") from error
        if isinstance(found, Answer):
            return found
        if self.status is Status.UNSUPPORTED:
            return Answer(self.status, self.note)
        if found is None and is_off and not (setting.value is False and self.convert is nothing):
            return UNUSED
        return Answer(self.status, self.note, {} if found is None else {self.ours: found})


def same(value: Any, other: Any) -> bool:
    """Return whether two values are equal; 0 and 0.0 and False and "0.0" are."""
    if isinstance(value, str) and isinstance(other, int | float):
        try:
            value = float(value)
        except ValueError:
            return False
    return value == other


def taken(ours: str, convert: Convert = lambda value, settings: value, note: str = "", many: bool = False) -> Row:
    """Row of a setting that means the same here."""
    return Row(Status.TAKEN, ours, note, convert, many=many)


def equivalent(ours: str, note: str, convert: Convert = lambda value, settings: value) -> Row:
    """Row of a setting that has its like here."""
    return Row(Status.EQUIVALENT, ours, note, convert)


def as_here(note: str) -> Row:
    """Row of a setting of which there is one kind here."""
    return Row(Status.TAKEN, "", note, nothing)


def with_another(ours: str, note: str) -> Row:
    """Row of a setting that another row reads, or that is read from elsewhere here."""
    return Row(Status.EQUIVALENT, ours, note, nothing, many=True)


def ignored(note: str) -> Row:
    """Row of a setting that changes nothing here."""
    return Row(Status.IGNORED, "", note)


def unsupported(note: str, *off: Any, convert: Convert = lambda value, settings: value, ours: str = "") -> Row:
    """Row of a setting that cannot be had here, unless it is not used."""
    return Row(Status.UNSUPPORTED, ours, note, convert, off)


def number(value: Any, name: str = "") -> float:
    """Return a number, also from its text.

    Raises:
        InputError: if it is none.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or isinstance(value, bool):
        raise InputError(f"{name or NAMELESS} is {value!r}; it must be a number")
    return found


def whole(value: Any, name: str = "") -> int:
    """Return a whole number, also from `16.0` or a text.

    Raises:
        InputError: if it is none.
    """
    found = number(value, name)
    if found != int(found):
        raise InputError(f"{name or NAMELESS} is {value!r}; it must be a whole number")
    return int(found)


def yes(value: Any, name: str = "") -> bool:
    """Return a switch, also from its text.

    Raises:
        InputError: if it is none.
    """
    if value in (None, "", 0, 1) or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InputError(f"{name or NAMELESS} is {value!r}; it must be true or false")


def nothing(value: Any, settings: Settings) -> None:
    """Converter: no option of ours."""
    del value, settings


def as_whole(value: Any, settings: Settings) -> int | None:
    """Converter: a whole number; None where there is none."""
    del settings
    return None if value in (None, "") else whole(value)


def as_number(value: Any, settings: Settings) -> float | None:
    """Converter: a number; None where there is none."""
    del settings
    return None if value in (None, "") else number(value)


def as_switch(value: Any, settings: Settings) -> bool:
    """Converter: true or false."""
    del settings
    return yes(value)


def given(value: Any, settings: Settings) -> Any:
    """Converter: the value; None for an empty text."""
    del settings
    return value or None


def count(value: Any, settings: Settings) -> int | None:
    """Converter: a whole number; None for 0, which means off."""
    return as_whole(value, settings) or None


def above_0(value: Any, settings: Settings) -> float | None:
    """Converter: a number; None for 0, which means off."""
    return as_number(value, settings) or None
