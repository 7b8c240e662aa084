"""Finished tests side by side, on made-up runs whose answer is known."""

import re

import numpy as np
import pytest

from stylelora.experiments.compare import compare
from stylelora.experiments.finished import read_finished
from stylelora.records import InputError
from tests.finished import write_finished

STYLE, SCORE = "style[e]/ink", "clip_score[c]"


def make(folder, gain, *, score=0.5, loss=0.8, **more):
    """A test whose arm is `gain` above the base's 0.2, and removes 1 - loss of its loss."""
    noise = np.random.default_rng(sum(map(ord, folder.name))).normal(0, 0.02, (20, 2))
    arms = {
        "base": {STYLE: lambda i, j: 0.2 + 0.01 * (i % 4), SCORE: lambda i, j: 0.9},
        "ink 1": {STYLE: lambda i, j: 0.2 + gain + 0.01 * (i % 4) + noise[i, j], SCORE: lambda i, j: score},
    }
    losses = {"base": lambda i: 0.1 + 0.01 * i, "ink 1": lambda i: loss * (0.1 + 0.01 * i)}
    return str(write_finished(folder, arms, losses, seeds=2, **more))


def table(said):
    """Rows of the printed table by (kind, metric): first, this, difference, p, adjusted."""
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith(("| primary", "| explor"))]
    return {(kind, re.sub(r".*: ", "", key)): cells for kind, key, *cells in rows}


def number(cell):
    return float(cell.split(" ")[0])


def test_attainment_is_on_the_scale_of_the_first_and_skill_is_compared_by_held_out_picture(tmp_path, capsys):
    runs = [make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.15, loss=0.6)]
    compare(runs, margin=0.1)
    said = capsys.readouterr().out
    rows = table(said)
    first, this, difference, p, _ = rows["primary", "attainment[e]/ink"]
    assert number(first) == pytest.approx(1, abs=1e-3)
    assert number(this) == pytest.approx(0.5, abs=0.03)
    assert number(difference) == pytest.approx(-0.5, abs=0.03)
    assert float(p) < 0.001
    first, this, difference, *_ = rows["exploratory", "skill/ink"]
    assert (number(first), number(this), number(difference)) == pytest.approx((0.2, 0.4, 0.2))
    assert "equal to within 0.1? p = 1.0000" in said
    assert "speak for these adapters, not for their recipes" in said


def test_three_training_seeds_a_side_are_paired_and_bound_what_pooling_does_not(tmp_path, capsys):
    first = [make(tmp_path / f"a{i}", 0.3) for i in range(3)]
    other = [make(tmp_path / f"b{i}", gain) for i, gain in enumerate((0.38, 0.29, 0.33))]
    compare([",".join(first), ",".join(other)])
    nested = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    compare([first[0], other[0]])
    single = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    assert number(nested[2]) == pytest.approx(0.111, abs=0.02)
    assert float(nested[3]) > 0.05  # three adapters that disagree
    assert float(single[3]) < 0.001  # one of them is sure


def test_training_seeds_are_paired_in_their_order(tmp_path, capsys):
    levels = (0.2, 0.3, 0.4)
    first = [make(tmp_path / f"a{i}", gain) for i, gain in enumerate(levels)]
    other = [make(tmp_path / f"b{i}", gain + 0.05) for i, gain in enumerate(levels)]
    compare([",".join(first), ",".join(other)])
    paired = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    compare([",".join(first), ",".join(other[::-1])])
    crossed = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    assert float(paired[3]) < 0.01 < 0.5 < float(crossed[3])
    assert number(paired[2]) == pytest.approx(number(crossed[2]), abs=1e-3)


def test_primary_p_values_are_adjusted_over_the_sides(tmp_path, capsys):
    runs = [make(tmp_path / name, 0.3, score=0.5) for name in "abc"]
    compare(runs, primary="style")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| primary")]
    p, adjusted = np.array([[float(cell) for cell in row.strip("| ").split(" | ")[-2:]] for row in rows]).T
    assert sorted(adjusted)[0] == pytest.approx(min(1, 2 * min(p)), abs=2e-4)


def test_settings_that_differ_are_said(tmp_path, capsys):
    runs = [
        make(tmp_path / name, 0.3, settings={"steps": steps, "base": "mini"})
        for name, steps in zip("ab", (12, 20), strict=True)
    ]
    compare(runs)
    said = capsys.readouterr().out
    assert f"{runs[1]} has model.steps 20, the first 12" in said
    assert "model.base" not in said


def test_what_cannot_be_compared_is_refused(tmp_path):
    run, other = make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.3, dataset="e")
    with pytest.raises(InputError, match="no metric of both is called styel; choose from attainment, clip_score"):
        compare([run, run], primary="styel")
    with pytest.raises(InputError, match="no finished test"):
        compare([run, str(tmp_path / "nothing")])
    with pytest.raises(InputError, match="no arm 'x'"):
        compare([run, run], arms=["x", "base"])
    with pytest.raises(InputError, match="at least two runs"):
        compare([run])
    with pytest.raises(InputError, match="other prompts or held-out pictures"):
        compare([run, other])
    with pytest.raises(InputError, match="another number of runs"):
        compare([f"{run},{run}", run])
    short = make(tmp_path / "c", 0.3, prompts=19)
    with pytest.raises(InputError, match="other prompts or seeds"):
        compare([run, short])
    (tmp_path / "b" / "losses.jsonl").unlink()
    with pytest.raises(InputError, match="no finished test"):
        read_finished(tmp_path / "b")
