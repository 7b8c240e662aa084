"""Patterns of PEFT's LoraConfig: regular expressions in a file, so that whoever made it could have them never end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from stylelora.records import InputError

SECONDS = 5.0  # for all comparisons of a file's patterns; those that PEFT and we write take milliseconds
LONGEST = 500  # letters of a pattern; a name in Stable Diffusion has some 80
MOST = 10_000  # patterns; Stable Diffusion has some 400 layers


class Patterns:
    """Values by layer, such as `rank_pattern` and `alpha_pattern`: the first expression counts that a name ends with.

    Args:
        patterns: expression -> value.
        source: the file and the name of the pattern, for errors.

    Raises:
        InputError: if it is something else, or an expression is none.
    """

    def __init__(self, patterns: object, source: str) -> None:
        import regex  # has a time limit, which Python's own lacks

        if not isinstance(patterns, Mapping | None) or len(patterns or ()) > MOST:
            raise InputError(f"{source} is unreadable: it is no mapping of at most {MOST} patterns.")
        if wild := next((key for key in patterns or {} if len(key) > LONGEST or "{" in key), None):
            raise InputError(f"{source} has {wild[:60]!r}: none has repeats in braces, or more than {LONGEST} letters.")
        self.source, self.left = source, SECONDS
        try:
            self.compiled = [(regex.compile(rf"(.*\.)?({key})$"), value) for key, value in (patterns or {}).items()]
        except (regex.error, RecursionError) as error:
            raise InputError(f"{source} is unreadable ({error}).") from error

    def value(self, layer: str) -> Any:
        """Return a layer's value; None if no pattern is its.

        Raises:
            InputError: if comparing takes seconds.
        """
        started = time.monotonic()
        try:
            for expression, value in self.compiled:
                if expression.match(layer, timeout=max(self.left - (time.monotonic() - started), 1e-3)):
                    return value
        except TimeoutError as error:
            raise InputError(f"{self.source} has a pattern that takes too long to compare; simplify it.") from error
        finally:
            self.left -= time.monotonic() - started
        return None


def with_patterns(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a LoraConfig with its patterns as `Patterns`; raises as these."""
    names = ("rank_pattern", "alpha_pattern")
    return {**config, **{name: Patterns(config.get(name), f"{source}: {name}") for name in names}}
