"""Start runs in subprocesses, and stop them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from stylelora.console.family import mark_as_parent
from stylelora.console.stopping import STOPPING

ROOT = Path(__file__).resolve().parents[2]  # holds `cli`, unless the package is installed
GRACE = 60.0  # seconds for a run to finish its step and save

_running: set[subprocess.Popen] = set()
_changing = threading.Lock()


def start(*words: str, log: Path | None = None, **environment: str) -> int:
    """Run a project command in a subprocess and wait for it.

    It uses one thread, since several runs may run in parallel, and this process's working directory. Signals of a
    terminal do not reach it: `stop_all` does. It ends soon after this process, however that ends.

    Args:
        words: verb and options such as `fit`, `--config`, `configs/quickstart.yaml`.
        log: file that gets its output; default: this process's stderr.
        environment: further variables.

    Returns:
        exit status; 0 means success.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)} | environment
    with _changing, contextlib.ExitStack() as opened:
        if STOPPING.asked is not None:  # in a thread, which gets no signals
            return 128 + STOPPING.asked
        mark_as_parent()
        said = {"stdout": sys.stderr}
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            said = {"stdout": opened.enter_context(log.open("wb")), "stderr": subprocess.STDOUT}
        command, environment = [sys.executable, "-m", "cli", *words], os.environ | environment
        run = subprocess.Popen(command, env=environment, **said, start_new_session=os.name != "nt")
        _running.add(run)
    try:
        return run.wait()
    finally:
        if run.returncode is not None:  # else it is to be stopped
            _running.discard(run)


def stop_all() -> None:
    """Stop all runs that go on, which save their state; kill what has not ended after `GRACE` seconds."""
    with _changing:
        runs = [run for run in [*_running] if run.poll() is None]
    try:
        for run in runs:
            run.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        while any(run.poll() is None for run in runs) and time.monotonic() < until:
            time.sleep(0.1)
    finally:  # also after a second Ctrl-C
        for run in runs:
            run.kill()
            run.wait()
        _running.difference_update(runs)
