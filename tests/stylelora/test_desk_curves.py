import itertools
import re
from xml.etree import ElementTree

import pytest

from stylelora.desk.curves import curves, table, ticks
from stylelora.desk.run_view import read_run
from tests import watched


@pytest.fixture
def view(tmp_path):
    folder, _ = watched.write_training(tmp_path / "ink", planned=9)
    return read_run(tmp_path, folder.name)


def drawings(page):
    """The figures of a page, parsed, by their title."""
    found = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    return {
        re.search(r"<strong>(.*?)</strong>", one).group(1): ElementTree.fromstring(one).find("svg") for one in found
    }


def places(path):
    return [tuple(map(float, pair.split())) for pair in re.split(" L", path.strip(" MZ"))]


def scale(svg):
    """Return the height that a number has, from the texts of the axis."""
    marks = [
        (float(one.text), float(one.get("y")) - 4) for one in svg.findall("text") if one.get("text-anchor") == "end"
    ]
    (low, bottom), (high, top) = marks[0], marks[-1]
    return lambda value: bottom + (value - low) / (high - low) * (top - bottom)


def test_the_curve_and_its_interval_are_where_the_numbers_are(view):
    svg = drawings(curves(view, 0))["Skill"]
    [line], [band] = ([one for one in svg.findall("path") if kind in one.get("class")] for kind in ("line", "band"))
    y = scale(svg)
    assert [at for _, at in places(line.get("d"))] == pytest.approx([y(one) for one in watched.SKILLS], abs=0.1)
    ends = [0.14, 0.34, 0.24, 0.15, 0.25, 0.05]
    assert [at for _, at in places(band.get("d"))] == pytest.approx([y(one) for one in ends], abs=0.1)
    across = [float(one.get("x")) for one in svg.findall("text") if one.text in ("1", "2", "3")]
    assert [x for x, _ in places(line.get("d"))] == across


def test_the_kept_epoch_and_what_is_shown_are_marked(view):
    svg = drawings(curves(view, 2))["Skill"]
    [line] = [one for one in svg.findall("path") if "line" in one.get("class")]
    [kept] = [one for one in svg.findall("line") if one.get("class") == "kept"]
    [mark] = [one for one in svg.findall("circle") if one.get("r") == "6"]
    assert float(kept.get("x1")) == places(line.get("d"))[1][0]
    assert (float(mark.get("cx")), float(mark.get("cy"))) == places(line.get("d"))[2]


def test_each_figure_says_its_last_and_its_kept_numbers(view):
    found = drawings(curves(view, 0))
    assert set(found) == {"Skill", "CLIP score", "Loss"}
    said = found["Skill"].get("aria-label")
    assert "last, epoch 3 of 9: LoRA 0.200 (0.150 to 0.240)" in said
    assert "kept, epoch 2 of 9: LoRA 0.300 (0.250 to 0.340)" in said
    assert "base 0.600" in found["CLIP score"].get("aria-label")


def test_the_table_has_every_number_and_marks_the_kept_epoch(view):
    rows = re.findall(r"<tr.*?</tr>", table(view), re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows[1:]]
    assert [row[0] for row in cells] == ["1", "2 (kept)", "3"]
    assert cells[1][1:] == ["10", "0.300 (0.250 to 0.340)", "0.467 (0.300 to 0.600)", "0.600", "93%", "0.190", "0.200"]


def test_a_single_validation_and_none_at_all_are_drawn(tmp_path):
    folder, _ = watched.write_training(tmp_path / "one", 1, kept=0)
    found = drawings(curves(read_run(tmp_path, "one"), 0))
    assert len(found) == 3
    [bar] = [one for one in found["Skill"].findall("path") if one.get("class") == "band own single"]
    y = scale(found["Skill"])
    assert [at for _, at in places(bar.get("d"))] == pytest.approx([y(0.14), y(0.05)], abs=0.1)
    for file in folder.glob("events*"):
        file.unlink()
    (folder / "clip_score.jsonl").write_text("")
    assert drawings(curves(read_run(tmp_path, "one"), 0)) == {}


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.3), (0.0, 0.26), (-0.37, 0.04), (0.2, 0.2), (0.0, 0.0), (-3, 1e9)])
def test_ticks_are_few_round_and_span_the_numbers(low, high):
    found = ticks(low, high)
    assert found[0] <= low and high <= found[-1] and len(found) <= 5
    steps = {round(b - a, 9) for a, b in itertools.pairwise(found)}
    assert len(steps) <= 1 and all(f"{step:e}"[0] in "125" for step in steps)
