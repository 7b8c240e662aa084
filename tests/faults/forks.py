"""Starts command lines in forks of one warm process, and shows what a kill at any of their events leaves on the disk.

Events are hooks of Lightning, scoring, and what the system is asked to write, rename, cut or remove below the run's
folder; each counts before it happens. A kill leaves the files as they are at that moment, so a copy of the folder is
what a kill would leave; `kill` does it with SIGKILL. `python -m tests.faults.forks` reads orders from standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"os.rename", "os.truncate", "os.remove", "os.mkdir"}


class Forks:
    """The warm process; it ends with the block."""

    def __enter__(self) -> Forks:
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def run(self, words: list[str], folder: Path, **at: int | str) -> dict:
        """Run a command line; return `status` (negative: the signal), `said`, and the names of all `events`.

        Args:
            words: the command line.
            folder: whose files count.
            at: `kill` or `interrupt`: number of the event before which it gets SIGKILL or SIGINT; `copies`: folder that
                gets a copy of the run's folder before each event, by its number.
        """
        order = {"words": words, "folder": str(folder)} | at
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Events:
    """Counts the events of a process, and does at them what the order says."""

    def __init__(self, order: dict, trace: Path) -> None:
        self.order, self.count, self.here = order, 0, threading.get_ident()
        self.folder, self.trace = os.path.realpath(order["folder"]), trace.open("w", buffering=1)

    def happens(self, name: str) -> None:
        """Count an event."""
        for at, number in (("kill", signal.SIGKILL), ("interrupt", signal.SIGINT)):
            if self.count == self.order.get(at):
                os.kill(os.getpid(), number)
        if "copies" in self.order and os.path.isdir(self.folder):
            self.here = None  # copying is no event
            shutil.copytree(self.folder, Path(self.order["copies"], str(self.count), os.path.basename(self.folder)))
            self.here = threading.get_ident()
        self.count += 1
        self.trace.write(name + "\n")

    def audit(self, event: str, arguments: tuple) -> None:
        """See what the system is asked to do; by this thread, for that of TensorBoard comes as it likes."""
        if threading.get_ident() != self.here or not (event in CHANGES or (event == "open" and _writes(arguments))):
            return
        path = os.path.realpath(os.fsdecode(arguments[0])) if not isinstance(arguments[0], int) else ""
        if path.startswith(self.folder + os.sep):
            file = Path(os.fsdecode(arguments[1]) if event == "os.rename" else path)
            self.happens(f"{event} {''.join(letter for letter in file.suffix if not letter.isdigit())}")

    def watch(self) -> None:
        """See hooks and scores, too; and let files be dated alike, as of the same code."""
        from lightning.pytorch.trainer import call

        import callbacks.clip_score as clip
        import callbacks.save_adapter as saving
        import stylelora.runs.notes as notes

        saving.git_hash = lambda: "unknown"  # somebody may commit meanwhile
        notes.datetime = SimpleNamespace(now=lambda zone: datetime(2026, 1, 1, tzinfo=zone))
        call._call_callback_hooks = self._before(call._call_callback_hooks, lambda trainer, hook, *_: hook)
        clip.score_samples = self._before(clip.score_samples, lambda *_: "score_samples")
        sys.addaudithook(self.audit)

    def _before(self, function: Callable, name: Callable) -> Callable:
        def wrapped(*arguments: object, **options: object) -> object:
            self.happens(name(*arguments))
            return function(*arguments, **options)

        return wrapped


def _writes(arguments: tuple) -> bool:
    return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _child(order: dict, trace: Path) -> int:
    """Run a command line; return its exit status, unless it is killed."""
    said = os.open(trace.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    Events(order, trace).watch()
    import cli

    sys.argv = ["cli.py"]
    try:
        cli.main(order["words"])
    except SystemExit as stop:
        print(stop.code if isinstance(stop.code, str) else "", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def _serve() -> None:
    import torch

    import callbacks  # noqa: F401
    import cli
    import datamodules  # noqa: F401
    import lightning_modules  # noqa: F401

    torch.set_num_threads(1)  # and no backward pass here: its threads do not survive a fork
    cli.build_cli()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        trace = Path(f"{order['folder']}.events")
        trace.parent.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if not child:
            os._exit(_child(order, trace))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said, events = trace.with_suffix(".said").read_text(), trace.read_text().splitlines()
        answers.write(json.dumps({"status": status, "said": said, "events": events}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
