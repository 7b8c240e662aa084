"""Hostile inputs as data: every one is accepted, or refused in one sentence, within ten seconds."""

import contextlib
import signal
from pathlib import Path

import pytest
import yaml

from stylelora.console.errors import sentence
from tests.faults.making import filled, make
from tests.faults.receiving import RECEIVERS

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 10


class Hangs(BaseException):
    """What takes too long; no `except Exception` stops it."""


def entries():
    """Yield receiver, how the input is made, what is given, and the verdict, of all entries of all tables."""
    for file in sorted(CORPUS.glob("*.yaml")):
        for table in yaml.safe_load(file.read_text(encoding="utf-8")):
            for name, (steps, verdict, *more) in table["entries"].items():
                steps, words = table.get("start", []) + steps, more[0] if more else table["give"]
                fast = table.get("fast", [])  # names, or `all`
                marks = [] if fast == "all" or name in fast else [pytest.mark.slow]
                yield pytest.param(table["to"], steps, words, verdict, id=f"{table['to']}-{name}", marks=marks)


@contextlib.contextmanager
def at_most(seconds):
    """Raise Hangs in what takes longer."""

    def stop(number, frame):
        raise Hangs(f"hangs for more than {seconds} s")

    kinds = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, stop) for number in kinds.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 6 * seconds)  # what waits takes no time of the processor; others may take it
    try:
        yield
    finally:
        for timer in kinds:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def given(tiny_sd, tiny_clip, pictures, adapter_files):
    """What all entries may start from."""
    return {"base": tiny_sd, "clip": tiny_clip, "pictures": pictures, "ink": adapter_files[0], "oil": adapter_files[1]}


@pytest.mark.parametrize(("receiver", "steps", "words", "verdict"), list(entries()))
def test_the_verdict_is_right(receiver, steps, words, verdict, given, tmp_path, caplog):
    make(steps, tmp_path, given)
    said = ""
    with at_most(SECONDS):
        try:
            RECEIVERS[receiver](given, *filled(words, tmp_path, given))
        except Exception as error:
            said = sentence(error, ["fit"])  # raises a defect again
    if verdict == "ok" or isinstance(verdict, dict):
        assert said == ""
        assert verdict == "ok" or verdict["warns"] in caplog.text
    else:
        assert verdict in said
        assert "\n" not in said
