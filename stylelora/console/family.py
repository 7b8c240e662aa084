"""Processes that belong together, the devices of a run and the runs of a study: none outlives what started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from stylelora.console.stopping import STOPPING, Stopped, numbers
from stylelora.records import InputError

PARENT = "STYLELORA_PARENT"  # environment variable: process that started this one and must not be outlived
LOOK = 0.5  # seconds between two looks at another process
PATIENCE = 15.0  # seconds for a process to end by itself when one that it needs is gone
_BROKEN_LINK = re.compile(r"gloo|nccl|connection|peer|socket|store|timed? ?out", re.IGNORECASE)


class DeviceLost(InputError):
    """The process of another device has ended, so that the run cannot go on."""


def _is_broken_link(error: BaseException) -> bool:
    wrong = isinstance(error, Exception) and not isinstance(error, InputError)
    return wrong and bool(_BROKEN_LINK.search(str(error)))


def is_first() -> bool:
    """Return whether this is the first process of a run, by what torchrun, SLURM or Lightning tell the others."""
    return not any(int(os.environ.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def mark_as_parent() -> None:
    """Let the processes that this one starts from now on end with it, if they call `follow_parent`."""
    os.environ[PARENT] = str(os.getpid())


def follow_parent() -> None:
    """End soon after the process that started this one as part of its work, however that ended.

    The process of a further device passes signals on to the first one, which ends the run for all; Ctrl-C in a terminal
    reaches the first one alone.
    """
    parent = os.getppid()
    if os.environ.get(PARENT) != str(parent):
        return
    if is_device := int(os.environ.get("LOCAL_RANK", 0)) > 0:
        STOPPING.passes_on_to = parent
        if hasattr(os, "setsid") and os.getpgrp() != os.getpid():
            os.setsid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        if not is_device:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(4 * PATIENCE)  # to finish a step and save
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=follow, daemon=True, name="follow-parent").start()


class Devices:
    """The processes of a run's further devices, in the first one, which started them.

    Attributes:
        last_words: writes why the run has failed, where this process cannot end by itself.
    """

    def __init__(self) -> None:
        self.processes: Sequence[subprocess.Popen] = ()
        self.last_words: Callable[[BaseException], None] = lambda error: None

    def watch(self, processes: Sequence[subprocess.Popen]) -> None:
        """End the run within half a minute if one of these processes dies, whatever this one waits for."""
        self.processes = processes
        threading.Thread(target=self._watch, args=(processes,), daemon=True, name="watch-devices").start()

    def lost(self) -> DeviceLost | Stopped | None:
        """Return why the run cannot go on, if the process of a device has ended other than well."""
        for device, process in enumerate(self.processes, start=1):
            code = process.poll()
            if code and (-code in numbers() or code - 128 in numbers()):
                return Stopped(abs(code) % 128)
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                more = ", maybe for want of memory" if code == -9 else "; see above"
                return DeviceLost(f"the process of device {device} {how}{more}; without it the run cannot go on")
        return None

    def cause(self, error: BaseException) -> BaseException:
        """Return what is behind an error: a broken link to another device is only what its end looks like here."""
        if not self.processes or not _is_broken_link(error):
            return error
        until = time.monotonic() + 10 * LOOK
        while (lost := self.lost()) is None and time.monotonic() < until:
            time.sleep(LOOK / 10)
        return lost or error

    def end(self) -> None:
        """End the processes of the other devices, which have nothing to save."""
        processes, self.processes = self.processes, ()
        for process in processes:
            process.kill()

    def _watch(self, processes: Sequence[subprocess.Popen]) -> None:
        while self.processes is processes and (lost := self.lost()) is None:
            if all(process.poll() == 0 for process in processes):
                return
            time.sleep(LOOK)
        if self.processes is not processes:
            return
        STOPPING.raise_in_main(lost)
        time.sleep(PATIENCE)  # it may wait for the device that is gone, and hear nothing
        self.last_words(lost)
        print(f"\nerror: {lost}", file=sys.stderr, flush=True)
        self.end()
        os._exit(lost.code if isinstance(lost, Stopped) else 1)


#: Of this run.
DEVICES = Devices()


@contextmanager
def together() -> Iterator[None]:
    """Run a program: listen to signals, and end together with the processes that belong to it.

    Raises:
        DeviceLost: for an error that is only what the end of another device looks like here.
    """
    try:
        with STOPPING.listening():
            follow_parent()
            try:
                yield
            except Exception as error:
                if STOPPING.passes_on_to and _is_broken_link(error):
                    time.sleep(2 * PATIENCE)  # the first device says why, and ends this process
                if STOPPING.asked is not None and not is_first() and _is_broken_link(error):
                    raise Stopped(STOPPING.asked) from error  # the first process was asked, too, and has ended
                if (cause := DEVICES.cause(error)) is error:
                    raise
                raise cause from error
    except BaseException:
        DEVICES.end()
        raise
