"""Results as a table for other programs: CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stylelora.files import write
from stylelora.records import InputError

SUFFIXES = (".csv", ".json")


def check_suffix(path: Path) -> None:
    """Refuse a file that no table can be written to, before anything is computed.

    Raises:
        InputError: if its name does not end in .csv or .json.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no file for a table; give a name that ends in {' or '.join(SUFFIXES)}")


def export(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write records of equal keys as CSV or JSON, whole or not at all; what is not finite is empty, or null.

    Args:
        rows: one record per line of the table.
        path: file to write; its suffix decides.

    Raises:
        InputError: if its name does not end in .csv or .json.
    """
    check_suffix(path)
    clean = finite([dict(row) for row in rows])
    if path.suffix == ".json":
        write(path, json.dumps(clean, indent=1, ensure_ascii=False) + "\n")
        return
    text = io.StringIO()
    table = csv.DictWriter(text, list(clean[0]) if clean else [], lineterminator="\n")
    table.writeheader()
    table.writerows(
        {name: " ".join(map(str, cell)) if isinstance(cell, list | tuple) else cell for name, cell in row.items()}
        for row in clean
    )
    write(path, text.getvalue())


def finite(value: Any) -> Any:
    """Return plain values, at any depth, with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
