"""Which epoch is kept."""

import dataclasses
import math

import pytest

from stylelora.runs.kept import KeptEpoch


@pytest.mark.parametrize(
    ("skills", "kept"),
    [
        ([0.1, 0.3, 0.2], [0, 1, 1]),
        ([0.3, 0.3, 0.3], [0, 0, 0]),
        ([math.nan, -0.2, math.nan, -0.1], [-1, 1, 1, 3]),
        ([-math.inf, -5.0], [-1, 1]),
    ],
)
def test_the_highest_skill_is_kept_and_of_equal_ones_the_first(skills, kept):
    keeper = KeptEpoch()
    assert [keeper.offer(epoch, skill) for epoch, skill in enumerate(skills)] == kept


@pytest.mark.parametrize("skills", [[0.1, 0.3, 0.2, 0.3], [0.1, 0.2, 0.3]])
def test_a_resumed_run_keeps_what_a_straight_one_does(skills):
    straight, first = KeptEpoch(), KeptEpoch()
    whole = [straight.offer(epoch, skill) for epoch, skill in enumerate(skills)]
    for epoch, skill in enumerate(skills[:2]):
        first.offer(epoch, skill)
    resumed = KeptEpoch(**dataclasses.asdict(first))
    assert [resumed.offer(epoch, skill) for epoch, skill in enumerate(skills[2:], start=2)] == whole[2:]
    assert resumed == straight
