"""Finished tests side by side, on made-up runs whose answer is known."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from stylelora.evaluation.compare import compare
from stylelora.evaluation.finished import read_finished
from stylelora.metrics.comparison import holm
from stylelora.metrics.skill import skill_interval
from stylelora.records import InputError, Quantity
from tests.compared import LAST, OTHER, SCORE, STYLE, ink, make, number, own_loss, table
from tests.finished import write_finished


def test_attainment_is_on_the_scale_of_the_first_and_of_its_own_style_alone(tmp_path, capsys):
    ink(make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.15, base=0.25), margin=0.1)
    said = capsys.readouterr().out
    rows = table(said)
    first, this, difference, p, _ = rows["primary", "attainment[e]/ink"]
    assert number(first) == pytest.approx(1, abs=1e-3)
    assert number(this) == pytest.approx((0.25 + 0.15 - 0.2) / 0.3, abs=0.03)
    assert number(difference) == pytest.approx(-1 / 3, abs=0.03)
    assert number(p) < 0.001
    assert [key for key in rows if key[0] == "primary"] == [("primary", "attainment[e]/ink")]
    assert "equal to within 0.1? p = 1.0000, Holm 1.0000" in said
    assert "are about these adapters only, not their recipes" in said


def test_a_style_that_the_first_does_not_surely_reach_has_no_attainment_and_this_is_said(tmp_path, capsys):
    runs = [make(tmp_path / name, 0.0) for name in "ab"]
    with pytest.raises(InputError, match=r"no attainment: the first is not clearly nearer to it .* style\[e\]/ink"):
        ink(*runs)
    ink(*runs, primary="style")
    said = capsys.readouterr().out
    assert "no attainment: the first is not clearly nearer to it than its base, style[e]/ink" in said
    assert ("primary", str(STYLE)) in table(said)
    assert ("exploratory", str(OTHER)) in table(said)


def test_skill_is_compared_by_held_out_picture_and_has_the_interval_of_a_ratio(tmp_path, capsys):
    ink(make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.15, loss=0.6), primary="skill")
    first, this, difference, p, _ = table(capsys.readouterr().out)["primary", "skill/ink"]
    base, own = np.array([0.1 + 0.01 * i for i in range(12)]), np.array([own_loss(i) for i in range(12)])
    want = skill_interval(0.8 * own, base)
    ends = [float(end) for end in re.findall(r"-?\d\.\d+", first)]
    assert ends[0] == pytest.approx(want.value, abs=1e-3)
    assert ends[1:] == pytest.approx([want.ci_low, want.ci_high], abs=0.15 * (want.ci_high - want.ci_low))
    assert number(this) == pytest.approx(1 - 0.6 * own.sum() / base.sum(), abs=1e-3)
    assert number(difference) == pytest.approx(0.2 * own.sum() / base.sum(), abs=1e-3)
    assert number(p) < 0.01


def test_without_conditions_the_last_ones_are_compared(tmp_path, capsys):
    compare([make(tmp_path / name, 0.3) for name in "ab"], primary="style")
    said = capsys.readouterr().out
    assert f"{tmp_path / 'a'}, {LAST}" in said
    assert {key[1] for key in table(said) if key[0] == "primary"} == {str(STYLE), str(OTHER)}


def test_three_training_seeds_a_side_bound_what_pooling_does_not(tmp_path, capsys):
    first = [make(tmp_path / f"a{i}", 0.3) for i in range(3)]
    other = [make(tmp_path / f"b{i}", gain) for i, gain in enumerate((0.38, 0.29, 0.33))]
    ink(",".join(first), ",".join(other), margin=0.3)
    said = capsys.readouterr().out
    nested = table(said)["primary", "attainment[e]/ink"]
    nested_equal = float(re.search(r"within 0.3\? p = (\S+),", said).group(1))
    assert "3 training seeds on each side" in said
    ink(first[0], other[0], margin=0.3)
    said = capsys.readouterr().out
    single = table(said)["primary", "attainment[e]/ink"]
    assert number(nested[2]) == pytest.approx(0.111, abs=0.02)
    assert number(nested[3]) > 0.05  # three adapters that disagree
    assert number(single[3]) < 0.001  # one of them is sure
    assert nested_equal > 0.05


def test_training_seeds_are_paired_in_their_order(tmp_path, capsys):
    levels = (0.2, 0.3, 0.4)
    first = [make(tmp_path / f"a{i}", gain) for i, gain in enumerate(levels)]
    other = [make(tmp_path / f"b{i}", gain + 0.05) for i, gain in enumerate(levels)]
    ink(",".join(first), ",".join(other))
    paired = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    ink(",".join(first), ",".join(other[::-1]))
    crossed = table(capsys.readouterr().out)["primary", "attainment[e]/ink"]
    assert number(paired[3]) < 0.01 < 0.5 < number(crossed[3])
    assert number(paired[2]) == pytest.approx(number(crossed[2]), abs=1e-3)


def test_sides_may_have_other_numbers_of_training_seeds(tmp_path, capsys):
    first = [make(tmp_path / f"a{i}", gain) for i, gain in enumerate((0.3, 0.31, 0.29, 0.3))]
    other = [make(tmp_path / f"b{i}", gain) for i, gain in enumerate((0.2, 0.22))]
    ink(",".join(first), ",".join(other), primary="style", margin=0.2, output=tmp_path / "out.json")
    said = capsys.readouterr().out
    assert "4 and 2 training seeds, not paired: intervals and p-values cover other training seeds, too." in said
    (row,) = [one for one in json.loads((tmp_path / "out.json").read_text()) if one["kind"] == "primary"]
    means = [
        [
            np.mean([row["values"][0]["value"] for row in rows if row["condition"] == "ink 1"])
            for rows in (
                [json.loads(line) for line in (tmp_path / f"{name}{i}" / "values.jsonl").read_text().splitlines()]
                for i in range(count)
            )
        ]
        for name, count in (("a", 4), ("b", 2))
    ]
    assert row["difference"] == pytest.approx(np.mean(means[1]) - np.mean(means[0]), abs=1e-12)
    seeds = np.hypot(*(stats.t(len(x) - 1).ppf(0.975) * stats.sem(x) for x in means))
    half = row["difference_high"] - row["difference"]
    assert seeds < half < 1.2 * seeds  # what prompts differ by comes on top, and is little here
    assert 0 < row["p_equal"] < 0.05
    ink(first[0], ",".join(other))
    assert "1 and 2 training seeds, not paired" in (said := capsys.readouterr().out)
    assert "one side's seeds are taken to vary as much as the other's" in said


def test_adapters_of_training_seeds_may_have_other_names_but_no_other_weights(tmp_path, capsys):
    first = [make(tmp_path / f"a{i}", 0.3) for i in range(2)]
    values = tmp_path / "a1" / "values.jsonl"
    values.write_text(values.read_text().replace('"condition": "ink 1"', '"condition": "seed1 1"'))
    losses = tmp_path / "a1" / "losses.jsonl"
    losses.write_text(losses.read_text().replace('"condition": "ink 1"', '"condition": "seed1 1"'))
    ink(",".join(first), ",".join([make(tmp_path / f"b{i}", 0.3) for i in range(2)]))
    assert "2 training seeds on each side" in capsys.readouterr().out
    values.write_text(values.read_text().replace('"weights": {"ink": 1.0}', '"weights": {"ink": 0.5}'))
    with pytest.raises(InputError, match="a1 has no condition with the weights of ink 1"):
        ink(",".join(first), first[0])


def test_p_values_are_adjusted_by_holm_and_the_others_as_false_discoveries(tmp_path, capsys):
    runs = [make(tmp_path / name, gain, score=0.5) for name, gain in zip("abcd", (0.3, 0.3, 0.303, 0.31), strict=True)]
    ink(*runs, primary="style", margin=0.01)
    said = capsys.readouterr().out
    found = {"primary": {}, "exploratory": {}}
    for line in said.splitlines():
        if line.startswith(("| primary", "| explor")):
            kind, key, *_, p, adjusted = line.strip("| ").split(" | ")
            found[kind][key] = (number(p), number(adjusted))
    p = {key: pair[0] for key, pair in found["primary"].items()}
    assert len(p) == 3
    assert [pair[1] for pair in found["primary"].values()] == pytest.approx([*holm(p).values()], abs=3e-4)
    ranked = sorted(found["exploratory"].values())
    smallest = [min(p * len(ranked) / (rank + 1) for rank, (p, _) in enumerate(ranked) if rank >= own)
                for own in range(len(ranked))]  # Benjamini and Hochberg  # fmt: skip
    assert [pair[1] for pair in ranked] == pytest.approx([min(1, one) for one in smallest], abs=2e-3)
    equal = [tuple(map(number, pair)) for pair in re.findall(r"p = (\S+), Holm (\S+)", said)]
    assert len(equal) == 3
    assert sorted(pair[1] for pair in equal)[0] == pytest.approx(min(1, 3 * min(pair[0] for pair in equal)), abs=3e-4)


def test_settings_that_differ_and_metrics_of_one_side_are_said(tmp_path, capsys):
    runs = [
        make(tmp_path / name, 0.3, settings={"steps": steps, "base": "mini"})
        for name, steps in zip("ab", (12, 20), strict=True)
    ]
    values = tmp_path / "b" / "values.jsonl"
    values.write_text(values.read_text().replace('"judge": "c"', '"judge": "other"'))
    ink(*runs)
    said = capsys.readouterr().out
    assert f"{runs[1]} has model.steps 20, the first 12" in said
    assert "model.base" not in said
    assert f"only one of {runs[1]} and {runs[0]} has it: clip_score[c], clip_score[other]" in said


def test_numbers_that_are_none_leave_out_their_metric_alone(tmp_path, capsys):
    runs = [make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.3)]
    values = tmp_path / "b" / "values.jsonl"
    record = re.escape(json.dumps(SCORE.as_record() | {"value": 0})[:-2])
    values.write_text(re.sub(rf"({record})[\d.]+", r"\1NaN", values.read_text()))
    ink(*runs)
    said = capsys.readouterr().out
    assert f"left out, since some pictures have no value: {runs[1]}, ink 1: {SCORE}" in said
    assert ("primary", "attainment[e]/ink") in table(said)


def test_names_that_hold_slashes_and_brackets_are_no_obstacle(tmp_path, capsys):
    """Judges have hub ids, and styles the names of folders."""
    style = Quantity("style", "facebook/dino[v2]", "ink/[1]: +")
    for name, level in (("a", 0.3), ("b", 0.15)):
        conditions = {
            "base": {style: lambda i, j: 0.2},
            "ink 1": {style: lambda i, j, level=level: 0.2 + level + 0.001 * (i % 3)},
        }
        values = write_finished(tmp_path / name, conditions) / "values.jsonl"
        values.write_text(values.read_text().replace('"weights": {"ink": 1.0}', '"weights": {"ink/[1]: +": 1.0}'))
    ink(str(tmp_path / "a"), str(tmp_path / "b"))
    (cells,) = [row for (kind, _), row in table(capsys.readouterr().out).items() if kind == "primary"]
    assert [number(cell) for cell in cells[:2]] == pytest.approx([1, 0.5], abs=0.01)


def test_the_order_of_prompts_does_not_matter(tmp_path, capsys):
    ink(make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.2))
    want = table(capsys.readouterr().out)
    ink(str(tmp_path / "a"), make(tmp_path / "b", 0.2, backwards=True))
    assert table(capsys.readouterr().out) == want


def test_what_cannot_be_compared_is_refused(tmp_path):
    run, other = make(tmp_path / "a", 0.3), make(tmp_path / "b", 0.3, dataset="e")
    for arguments, said in (
        (
            {"runs": [run, run], "conditions": ["ink 1", LAST], "primary": "styel"},
            "no metric of both sides is called styel; choose from",
        ),
        ({"runs": [run, str(tmp_path / "nothing")]}, "is not a finished test"),
        ({"runs": [run, run], "conditions": ["x", "base"]}, "no condition 'x'"),
        ({"runs": [run, run], "conditions": ["base", "ink 1"]}, "the first side has no style of its own"),
        ({"runs": run}, "at least two runs"),
        ({"runs": [run, run], "conditions": "ink 1"}, "no conditions or one per run"),
        ({"runs": [run, other]}, "differ in prompts or held-out pictures"),
        ({"runs": [f"{run},{run}", f"{run},{run}"]}, "give different folders"),
        ({"runs": [run, ","]}, "give different folders"),
        ({"runs": [run, make(tmp_path / "c", 0.3, prompts=19)]}, "differ in prompts or seeds"),
        ({"runs": [run, f"{make(tmp_path / 'd', 0.3)},{tmp_path / 'c'}"]}, "differ in prompts or seeds"),
    ):
        with pytest.raises(InputError, match=said):
            compare(**arguments)


def test_the_same_adapter_is_no_second_training_seed(tmp_path):
    runs = [make(tmp_path / name, 0.3) for name in "abcd"]
    (tmp_path / "b" / "pictures.jsonl").write_text((tmp_path / "a" / "pictures.jsonl").read_text())
    with pytest.raises(InputError, match="b has the same adapters as an earlier run"):
        ink(",".join(runs[:2]), ",".join(runs[2:]))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("losses.jsonl", None, "has no losses.jsonl so it is not a finished test"),
        ("values.jsonl", '{"condition": "ba', "is not JSON"),
        ("values.jsonl", "", "no pictures"),
        ("values.jsonl", '{"condition": "base", "content": "a", "seed": 0, "values": {}}', "of an older version"),
        ("values.jsonl", '{"condition": "base", "method": "sum", "values": {"skill": 1}}', "of an older version"),
        ("result.json", json.dumps({"status": "failed"}), "ended as failed"),
    ],
)
def test_a_test_that_is_not_whole_is_refused(tmp_path, name, text, said):
    folder = tmp_path / "a"
    make(folder, 0.3)
    (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_finished(folder)


def test_a_condition_is_not_compared_with_itself(tmp_path):
    run = make(tmp_path / "a", 0.3)
    with pytest.raises(InputError, match="compared with itself"):
        ink(run, f"{run}/")
    compare([run, run], conditions=["ink 1", LAST])  # two conditions of one test
