"""What `migrate` writes: our YAML, headed by a line for each setting of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylelora.migration.dialects import Dialect
from stylelora.migration.rows import Answer, Row, Setting, Settings, Status

#: Section -> its class.
CLASSES = {"model": "lightning_modules.StyleLoRA", "data": "datamodules.StyleDataModule"}
#: In the order of the report: first what needs a decision.
HEADINGS = {
    Status.UNSUPPORTED: "Not supported; what to do",
    Status.UNKNOWN: "Unknown here, so left out",
    Status.EQUIVALENT: "Equivalent",
    Status.TAKEN: "Taken over",
    Status.IGNORED: "Ignored, because",
    Status.OFF: "Off, as here",
}


@dataclass(frozen=True)
class Line:
    """One line of the report: a setting and what became of it."""

    setting: Setting
    answer: Answer

    @property
    def counts(self) -> bool:
        """Whether it is listed and counted by its status: of a setting in the file, or one that needs a decision."""
        return self.setting.given or self.answer.status is Status.UNSUPPORTED

    def text(self) -> str:
        """Return it as words."""
        options = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in self.answer.options.items()]
        found = f"{self.setting.shown()} -> {', '.join(options)}" if options else self.setting.shown()
        return f"{found}: {self.answer.note}" if self.answer.note else found


def lines_of(dialect: Dialect, settings: Sequence[Setting]) -> list[Line]:
    """Return what becomes of each setting, in the file's order.

    Raises:
        InputError: if a value makes no sense.
    """
    known = Settings(settings)
    return [Line(setting, _answer(dialect, setting, known)) for setting in settings]


def _answer(dialect: Dialect, setting: Setting, settings: Settings) -> Answer:
    row: Row | None = dialect.table.get(setting.key)
    prefix = setting.key.split(".")[0]
    if row is None and prefix not in dialect.open:
        return Answer(Status.UNKNOWN)
    counts = settings.replaced_by(setting)
    once = row is not None and not row.many and row.status in (Status.TAKEN, Status.EQUIVALENT)
    if once and counts and counts.value != setting.value:
        return Answer(Status.IGNORED, f"{counts.name} counts")
    return dialect.open[prefix](setting, settings) if row is None else row.answer(setting, settings)


def nested(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the options of all lines as our config."""
    config: dict[str, Any] = {section: {"class_path": path} for section, path in CLASSES.items()}
    for line in lines:
        for name, value in line.answer.options.items():
            section, *rest = name.split(".")
            parts = [section, "init_args", *rest] if section in CLASSES else [section, *rest]
            place = config
            for part in parts[:-1]:
                place = place.setdefault(part, {})
            place[parts[-1]] = value
    return config


def report(dialect: Dialect, lines: Sequence[Line], file: str) -> str:
    """Return the report, one line per setting, under one heading per status."""
    text = [f"From {file} of {dialect.name}, by python cli.py migrate."]
    for status, heading in HEADINGS.items():
        own = [line for line in lines if line.answer.status is status and line.counts]
        text += [f"{heading}:", *(f"  {line.text()}" for line in own)] if own else []
    implied = [line for line in lines if not line.counts]
    text += ["Not in the file, but so in that program:", *(f"  {line.text()}" for line in implied)]
    return "\n".join(text)


def written(config: Mapping[str, Any], report: str) -> str:
    """Return the file: the report as comments, then the config."""
    import yaml

    comments = "\n".join(f"# {line}".rstrip() for line in report.splitlines())
    return f"{comments}\n{yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=110)}"
