"""Going on with a run from a checkpoint: with its settings, in its folder, and over nothing that is finished."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from stylelora.records import InputError
from stylelora.runs.aside import is_used, keep_copy
from stylelora.runs.checkpoint import read_checkpoint
from stylelora.runs.loggers import go_on as continue_loggers
from stylelora.runs.resume import ALLOW
from stylelora.runs.settings import Changes, changes, check_changes, check_names, said, serious, settings_of_data
from stylelora.texts import read_yaml


class Checkpoint(NamedTuple):
    """What a checkpoint says of its run.

    Attributes:
        file: its file.
        id: of the run; None: it says nothing of it.
        settings: as of `settings_of_run`.
        found: as of `settings_of_data`.
        step: finished optimiser steps.
        epochs: finished epochs.
        logs: lengths of the logs, as of `stylelora.runs.loggers.lengths`.
    """

    file: Path
    id: str | None
    settings: dict
    found: dict
    step: int
    epochs: int
    logs: dict[str, int]

    @classmethod
    def read(cls, file: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            InputError: if it cannot be read, or is of another program.
        """
        content = read_checkpoint(file)
        try:
            loop, run = content["loops"]["fit_loop"], content.get("run", {})
            whole = loop["epoch_loop.batch_progress"]["is_last_batch"]
            epochs = loop["epoch_progress"]["current"]["processed" if whole else "completed"]
            about = run.get("id"), run.get("settings", {}), run.get("found", {})
            return cls(file, *about, content["global_step"], epochs, content.get("logs", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is not a checkpoint of fit; give checkpoints/last.ckpt of a run") from error


def go_on(
    saved: Checkpoint, trainer: Any, model: Any, data: Any, settings: dict, allowed: Collection[str]
) -> tuple[str, Changes]:
    """Let a run go on from a checkpoint, after comparing its settings, before anything is encoded or written.

    A finished run is copied first, and stays as it is.

    Args:
        saved: the checkpoint.
        trainer: trainer of the run.
        model: its module.
        data: its data module.
        settings: as of `settings_of_run`.
        allowed: settings that may differ.

    Returns:
        id of the run, and what differs.

    Raises:
        InputError: the folder holds another run, or settings differ that are not allowed.
        SystemExit: nothing is left to train, which is said.
    """
    folder, used = Path(trainer.default_root_dir), is_used(Path(trainer.default_root_dir))
    if trainer.is_global_zero and used and not _is_of(saved, folder):
        raise InputError(
            f"{saved.file} is no checkpoint of the run in {folder}, which would be overwritten; name another folder "
            "with --trainer.default_root_dir"
        )
    if saved.id is None and "all" not in allowed:
        raise InputError(
            f"{saved.file} does not say with which settings it was made, for it is of an older version or of another "
            f"program; to go on whatever they were, add {ALLOW} all"
        )
    differ = changes(saved.settings, settings)
    check_names(allowed, settings.keys() | saved.settings.keys() | saved.found.keys())
    check_changes(serious(differ), allowed)
    if trainer.is_global_zero and hasattr(data, "scan"):
        data.scan()
        found = settings_of_data(model, data)
        others = {name: values for name, values in changes(saved.found, found).items() if name in found}
        check_changes(others, allowed)  # pictures of a prior that are gone are made again
        differ |= others
    _check_left(saved, folder, trainer)
    if trainer.is_global_zero:
        if is_finished(folder):
            keep_copy(folder)
        rename_adapter(folder)
        differing = f", with {said(differ)}" if differ else ""
        print(f"going on after step {saved.step} of {saved.file}{differing}", file=sys.stderr)
        continue_loggers(trainer.loggers, folder, saved.logs)
    return saved.id if used and saved.id else uuid.uuid4().hex, differ


def _is_of(saved: Checkpoint, folder: Path) -> bool:
    """Return whether a checkpoint is one of the run in a folder."""
    files = list((folder / "checkpoints").glob("*.ckpt"))
    others = [file for file in files if file.resolve() != saved.file.resolve()]
    ids = set()
    for file in sorted(others, key=lambda file: file.stem != "last")[:2]:
        with contextlib.suppress(InputError):  # half of a file says nothing
            ids.add(Checkpoint.read(file).id)
    return saved.id in ids if ids else len(files) > len(others)


def is_finished(folder: Path) -> bool:
    """Return whether the run in a folder has ended as it should."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["status"] == "success"
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return True  # who knows


def rename_adapter(folder: Path) -> None:
    """Let the adapters of a run be named like its folder, which has got another name since."""
    with contextlib.suppress(OSError, InputError, KeyError, TypeError):  # then they keep their names
        old = Path(read_yaml(folder / "config.yaml")["trainer"]["default_root_dir"]).name
        new = folder.resolve().name
        own = re.compile(rf"{re.escape(old)}(-last|-epoch=.*)?\.(safetensors|md|preview\.png)")
        for file in list(folder.iterdir()) if old not in ("", "..", new) else ():
            if own.fullmatch(file.name):
                file.rename(folder / f"{new}{file.name[len(old) :]}")


def _check_left(saved: Checkpoint, folder: Path, trainer: Any) -> None:
    """End here if a checkpoint has all epochs or steps of a run, unless its last files are still to be written."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    done = [f"{epochs} epochs"] if epochs is not None and 0 <= epochs <= saved.epochs else []
    done += [f"{steps} steps"] if 0 <= steps <= saved.step else []
    if not done:
        return
    more = f"--trainer.max_epochs {epochs * 2}" if "epochs" in done[0] else f"--trainer.max_steps {steps * 2}"
    if is_finished(folder):
        if trainer.is_global_zero:
            print(f"{folder} is finished: its {done[0]} are done, and nothing was written; for more, give {more}")
        sys.exit(0)
    if not is_used(folder):
        raise InputError(f"{saved.file} has all of the {done[0]}, so nothing is left to train; for more, give {more}")
