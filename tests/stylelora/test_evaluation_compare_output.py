"""The table of a comparison as a file."""

import csv
import json

import pytest

from stylelora.records import InputError, Quantity
from tests.compared import ink, make, number, table


def test_the_table_is_written_for_other_programs(tmp_path, capsys):
    runs = [make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.15, base=0.25)]
    for suffix in ("csv", "json"):
        ink(*runs, margin=0.1, output=tmp_path / f"out.{suffix}")
    printed = table(capsys.readouterr().out)
    records = json.loads((tmp_path / "out.json").read_text())
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records) == len(printed)
    for row, record in zip(rows, records, strict=True):
        for name in ("first", "this", "difference", "difference_low", "difference_high", "p_value", "p_adjusted"):
            assert float(row[name]) == record[name]
        quantity = Quantity(record["measure"], record["judge"], record["style"])
        first, this, difference, _, adjusted = printed[record["kind"], str(quantity)]
        assert [number(one) for one in (first, this, difference)] == [
            round(record[name], 3) for name in ("first", "this", "difference")
        ]
        assert number(adjusted) == pytest.approx(record["p_adjusted"], abs=1e-4)
        assert (record["p_equal"] is None) == (record["kind"] == "exploratory")
        assert row["p_equal"] == ("" if record["p_equal"] is None else str(record["p_equal"]))


def test_a_table_has_a_suffix_that_says_how(tmp_path):
    runs = [make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.15)]
    with pytest.raises(InputError, match=r"out.xlsx is no file for a table; give a name that ends in .csv or .json"):
        ink(*runs, output=tmp_path / "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()
