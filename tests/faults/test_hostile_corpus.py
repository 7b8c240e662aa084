"""Hostile inputs as data: every one is accepted, or refused in one sentence, within ten seconds."""

from pathlib import Path

import pytest
import yaml

from stylelora.console.errors import sentence
from tests.faults.making import filled, make
from tests.faults.receiving import RECEIVERS, at_most

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 10


def entries():
    """Yield receiver, how the input is made, what is given, and the verdict, of all entries of all tables."""
    for file in sorted(CORPUS.glob("*.yaml")):
        for table in yaml.safe_load(file.read_text(encoding="utf-8")):
            for name, (steps, verdict, *more) in table["entries"].items():
                steps, words = table.get("start", []) + steps, more[0] if more else table["give"]
                fast = table.get("fast", [])  # names, or `all`
                marks = [] if fast == "all" or name in fast else [pytest.mark.slow]
                yield pytest.param(table["to"], steps, words, verdict, id=f"{table['to']}-{name}", marks=marks)


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
