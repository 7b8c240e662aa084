"""The dialects: which trainer a file is for, its settings, and the table that says what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylelora.migration import ai_toolkit, ai_toolkit_read, kohya, kohya_gui, kohya_read, onetrainer, onetrainer_read
from stylelora.migration.rows import Answer, Row, Setting, Settings
from stylelora.records import InputError
from stylelora.texts import read_json, read_yaml


@dataclass(frozen=True)
class Dialect:
    """How one trainer writes its settings.

    Attributes:
        name: of the trainer.
        table: key -> row.
        read: content and path of a file -> its settings, defaults first.
        open: prefix of keys with free ends -> what becomes of them.
        shares: keys whose rows are another dialect's.
    """

    name: str
    table: Mapping[str, Row]
    read: Callable[[Mapping[str, Any], Path], Sequence[Setting]]
    open: Mapping[str, Callable[[Setting, Settings], Answer]] = field(default_factory=dict)
    shares: Collection[str] = ()


SD_SCRIPTS = Dialect("kohya's sd-scripts", kohya.TABLE, kohya_read.read, kohya.OPEN)
GUI = Dialect("the kohya_ss GUI", kohya_gui.TABLE, kohya_gui.read, kohya.OPEN, kohya.TABLE.keys() - kohya_gui.TO.keys())
ONETRAINER = Dialect("OneTrainer", onetrainer.TABLE, onetrainer_read.read, onetrainer.OPEN)
AI_TOOLKIT = Dialect("ai-toolkit", ai_toolkit.TABLE, ai_toolkit_read.read, ai_toolkit.OPEN)
DIALECTS = (SD_SCRIPTS, GUI, ONETRAINER, AI_TOOLKIT)
_KNOWN = "give a TOML of kohya's sd-scripts, a JSON of the kohya_ss GUI or OneTrainer, or a YAML of ai-toolkit"


def recognise(path: Path) -> tuple[Dialect, Mapping[str, Any]]:
    """Return the dialect of a file, and its content.

    Raises:
        InputError: if it cannot be read, or is of none of them.
    """
    if path.is_dir() or not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; {_KNOWN}")
    config = _content(path)
    if path.suffix.lower() == ".toml":
        if kohya_read.is_kohya(config):
            return SD_SCRIPTS, config
    elif ai_toolkit_read.is_ai_toolkit(config):
        return AI_TOOLKIT, config
    elif onetrainer_read.is_onetrainer(config):
        return ONETRAINER, config
    elif kohya_gui.is_gui(config):
        return GUI, config
    raise InputError(f"{path} is no config of a trainer that is known here; {_KNOWN}")


def _content(path: Path) -> Mapping[str, Any]:
    """Read a TOML, JSON or YAML file.

    Raises:
        InputError: if it is none, or holds no settings.
    """
    kind = path.suffix.lower()
    if kind not in (".toml", ".json", ".yaml", ".yml"):
        hint = "a command line of sd-scripts writes its TOML with --output_config --config_file my.toml behind it"
        raise InputError(f"{path} ends with {kind or 'nothing'}; {_KNOWN}; {hint}")
    config = {".toml": kohya_read.toml, ".json": read_json}.get(kind, read_yaml)(path)
    if not isinstance(config, dict) or not config:
        raise InputError(f"{path} holds no settings; {_KNOWN}")
    return config
