"""Signals that stop the program: who asked for it, when it stops, and its exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: How a result says what a signal asked for.
REASONS = {
    "SIGINT": "stopped with Ctrl-C",
    "SIGTERM": "stopped by SIGTERM",
    "SIGHUP": "stopped by SIGHUP: its terminal was closed",
    "SIGUSR1": "stopped by SIGUSR1: SLURM needs the machine",
    "SIGUSR2": "stopped by SIGUSR2: the time of this job of submitit is over",
}
CTRL_C = signal.SIGINT


class Stopped(SystemExit):
    """The program was stopped from outside; its exit code is 128 + signal, as shells have it.

    Attributes:
        number: of the signal.
        torn: whether it was raised although it was to wait, so maybe in the middle of a step.
    """

    def __init__(self, number: int, torn: bool = False) -> None:
        super().__init__(128 + number)
        self.number, self.torn = number, torn

    def __str__(self) -> str:
        return reason(self.number)


def reason(number: int) -> str:
    """Return what a signal asked for, in words."""
    name = signal.Signals(number).name
    return REASONS.get(name, f"stopped by {name}")


def numbers() -> frozenset[int]:
    """Return the signals that stop the program here: Windows has fewer, and SIGUSR1 and SIGUSR2 are SLURM's."""
    names = [name for name in REASONS if not name.startswith("SIGUSR") or "SLURM_JOB_ID" in os.environ]
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


class Stopping:
    """What was asked of this process, and whether that waits.

    A signal raises `Stopped` wherever the program is, unless it is among those that wait: then `asked` says so, and
    what runs ends by itself. A second Ctrl-C never waits.

    Attributes:
        asked: the first signal that came; None: none did.
        waiting: signals that wait for now.
        advice: what a person can do about it, said at the end.
        passes_on_to: process that ends this one, and so gets its signals.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.asked: int | None = None
        self.waiting: frozenset[int] = frozenset()
        self.process = 0
        self.interrupts = 0
        self.advice = ""
        self.passes_on_to: int | None = None
        self.lost: BaseException | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals until the block ends; inside another such block, or in a thread, do nothing.

        Signals that are ignored stay so: `nohup` ignores SIGHUP.
        """
        if self.process == os.getpid() or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._forget()
        self.process = os.getpid()
        before = {number: signal.getsignal(number) for number in numbers()}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, self._on_signal)
        try:
            yield
        except SystemExit as end:
            if self.asked is None:
                raise
            stopped = end if isinstance(end, Stopped) else Stopped(self.asked)
            print(f"\n{stopped}{self.advice and f'; {self.advice}'}", file=sys.stderr)
            raise stopped from end.__cause__
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.process = 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self.process:  # a forked helper: Ctrl-C, which all get, is for its parent
            if number != CTRL_C:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.lost is not None:
            self.asked = getattr(self.lost, "number", None)
            raise self.lost
        if self.passes_on_to is not None:
            os.kill(self.passes_on_to, number)
            return
        self.asked = self.asked or number
        self.interrupts += number == CTRL_C
        if self.interrupts > 1 or number not in self.waiting:
            raise Stopped(number, torn=number in self.waiting)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Let signals wait for the end of a short block that must not be cut in two; a second Ctrl-C does not."""
        before, self.waiting = self.waiting, numbers()
        try:
            yield
        finally:
            self.waiting = before
        self.check()

    def raise_in_main(self, error: BaseException) -> None:
        """Raise an error in the main thread, from another, as soon as Python runs there."""
        self.lost = error
        if self.process == os.getpid():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    def check(self) -> None:
        """Stop here if that was asked and no longer waits.

        Raises:
            Stopped: if so.
        """
        if self.asked is not None and self.asked not in self.waiting:
            raise Stopped(self.asked)


#: Of this process.
STOPPING = Stopping()
