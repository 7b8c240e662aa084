"""What is wrong with a command line at first sight, said before anything is loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from stylelora.console.renamed import new_place
from stylelora.console.verbs import VERBS
from stylelora.files import check_local
from stylelora.records import InputError, on_one_line
from stylelora.texts import is_text, read_yaml

MEANT = {"train": "fit", "sample": "predict", "generate": "predict", "evaluate": "test", "prepare": "preprocess"}


def meant(name: str, known: Sequence[str], before: str = "") -> str:
    """Return a question about a similar name, "" if there is none."""
    close = difflib.get_close_matches(name, known, 1)
    return f", did you mean '{before}{close[0]}'?" if close else ""


def check_verb(word: str) -> None:
    """Refuse an unknown verb.

    Raises:
        InputError: if it is none.
    """
    if word.startswith("-"):
        raise InputError(f"give a verb before {word}: {', '.join(VERBS)}")
    if word not in VERBS:
        question = f", did you mean '{MEANT[word]}'?" if word in MEANT else meant(word, list(VERBS))
        known = f"verbs are {', '.join(VERBS)}"
        raise InputError(f"there is no verb {word!r}{question + ' The' if question else '; the'} {known}")


def check_words(words: Sequence[str]) -> None:
    """Refuse words that are not UTF-8, such as names of files: no config could hold them.

    Raises:
        InputError: if one is none.
    """
    if bad := next((word for word in words if not is_text(word)), None):
        raise InputError(f"{on_one_line(bad)} is not UTF-8; give another, or rename the file")


def pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each word of a command line as an option, with its value: what follows its `=`, else the next word."""
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        option, equals, value = word.partition("=")
        yield option, value if equals else following


def check_files(words: Sequence[str]) -> None:
    """Refuse a missing config or checkpoint before anything is loaded.

    Raises:
        InputError: if one is missing.
    """
    for option, file in pairs(words):
        option = {"-c": "--config"}.get(option, option)
        if option not in ("--config", "--ckpt_path") or file in ("best", "last", "null"):
            continue
        if file.startswith("--"):
            raise InputError(f"{option} needs a file")
        if not check_local(file).is_file():
            what = "is a folder" if Path(file).is_dir() else "does not exist"
            more = "; configs/README.md lists the configs" if option == "--config" else ""
            raise InputError(
                f"{file} {what}; {place}" if (place := new_place(file)) else f"{option}: {file} {what}{more}"
            )
        if option == "--config":
            _check_yaml(file)


def _check_yaml(file: str) -> None:
    if not isinstance(read_yaml(Path(file)), dict):
        raise InputError(f"{file} has no settings; configs/quickstart.yaml is an example")
