"""Going on with a run: `fit --resume FOLDER`, in the words that the parser of the command line knows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stylelora.console.checks import check_files
from stylelora.records import InputError

RESUME, ALLOW = "--resume", "--resume_allow"


class CommandLine(NamedTuple):
    """A command line without the two options on resuming, which are no settings of the run.

    Attributes:
        words: verb and options; a resumed run's config, folder and checkpoint are among them.
        allowed: settings that may differ from those of the checkpoint.
    """

    words: list[str]
    allowed: frozenset[str] = frozenset()


def command_line(words: Sequence[str]) -> CommandLine:
    """Read `--resume FOLDER` as the folder's config and last checkpoint, in that folder, wherever it was moved to.

    Raises:
        InputError: if there is nothing to resume, or another option contradicts it.
    """
    rest, found = _taken_out(words, RESUME, ALLOW)
    allowed = frozenset(filter(None, found.get(ALLOW, "").replace(" ", "").split(",")))
    if found and rest[0] != "fit":
        raise InputError(f"{next(iter(found))} is an option of fit; {rest[0]} has none of that name")
    if RESUME not in found:
        return CommandLine(rest, allowed)
    for option in ("--ckpt_path", "--trainer.default_root_dir"):
        if any(word.partition("=")[0] == option for word in rest):
            raise InputError(
                f"{RESUME} goes on from the last checkpoint of a folder, in that folder; leave out {option}"
            )
    folder = Path(found[RESUME])
    if not (folder / "config.yaml").is_file():
        lacks = "has no config.yaml, so there is no run to resume" if folder.is_dir() else "is no folder of a run"
        raise InputError(f"{RESUME}: {folder} {lacks}")
    more = [f"--trainer.default_root_dir={folder}", f"--ckpt_path={last_checkpoint(folder)}"]
    config = f"--config={folder / 'config.yaml'}"
    check_files([config])
    return CommandLine([rest[0], config, *rest[1:], *more], allowed)


def resume_command(folder: Path) -> str:
    """Return what to type to go on with a run."""
    return f"python cli.py fit {RESUME} {shlex.quote(str(folder))}"


def last_checkpoint(folder: Path) -> Path:
    """Return the last checkpoint of a run: `last.ckpt`, or the newest where a config gives them other names.

    Raises:
        InputError: if there is none yet.
    """
    files = {file: (file.stem == "last", file.stat().st_mtime) for file in (folder / "checkpoints").glob("*.ckpt")}
    if not files:
        raise InputError(
            f"{folder} has no checkpoint yet, for the run ended before its first validation; start it again: "
            f"python cli.py fit --config {shlex.quote(str(folder / 'config.yaml'))}"
        )
    return max(files, key=files.get)


def _taken_out(words: Sequence[str], *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the other words, and option -> value of those that are there."""
    rest, found, words = [], {}, iter(words)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in options:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value or value.startswith("--"):
            what = "a folder, such as runs/quickstart" if option == RESUME else "names of settings, or all"
            raise InputError(f"{option} needs {what}")
        found[option] = value
    return rest, found
