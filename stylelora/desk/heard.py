"""What is said on the terminal, for a page whose visitors do not see it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread, self.said = threading.get_ident(), []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:  # others serve other visitors
            self.said.append(record.getMessage())


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the warnings of this program and this thread while the block lasts."""
    ear, logger = _Ear(), logging.getLogger("stylelora")
    logger.addHandler(ear)
    try:
        yield ear.said
    finally:
        logger.removeHandler(ear)
