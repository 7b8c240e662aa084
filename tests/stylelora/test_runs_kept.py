"""Which adapter is kept."""

import dataclasses
import math

import pytest

from stylelora.records import InputError
from stylelora.runs.kept import Kept, content_of


def offered(kept, pairs):
    """Offer (skill, share of the base's CLIP score) after each of several epochs of ten steps; return kept epochs."""
    found = []
    for epoch, (skill, content) in enumerate(pairs, start=max(0, kept.epoch + 1)):
        assert kept.offer(epoch, 10 * epoch + 10, skill, content) == kept.step
        assert kept.step in (-1, 10 * kept.epoch + 10)
        found.append(kept.epoch)
    return found


@pytest.mark.parametrize(
    ("skills", "kept"),
    [
        ([0.1, 0.3, 0.2], [0, 1, 1]),
        ([0.3, 0.3, 0.3], [0, 0, 0]),
        ([math.nan, -0.2, math.nan, -0.1], [-1, 1, 1, 3]),
        ([-math.inf, -5.0], [-1, 1]),
    ],
)
@pytest.mark.parametrize("rule", ["skill", "balanced"])
def test_the_highest_skill_is_kept_and_of_equal_ones_the_first(rule, skills, kept):
    """Also by the balanced rule, if no samples are scored."""
    keeper = Kept(rule)
    assert offered(keeper, [(skill, None) for skill in skills]) == kept
    assert keeper.warning == ""


def test_balanced_keeps_the_highest_skill_of_those_that_show_what_prompts_say():
    keeper = Kept("balanced", share=0.8)
    steps = [(0.1, 0.7), (0.2, 0.75), (0.3, 0.6), (0.25, 0.81), (0.24, 0.99), (0.4, 0.79), (0.26, 0.8)]
    assert offered(keeper, steps) == [0, 1, 1, 3, 3, 3, 6]
    assert keeper.warning == ""


def test_where_none_does_it_names_the_one_to_look_at():
    keeper = Kept("balanced", share=0.9)
    assert offered(keeper, [(0.1, 0.77), (0.2, 0.6), (0.3, 0.23)]) == [0, 0, 0]
    assert "the one after epoch 0 has the most, 77%" in keeper.warning


def test_content_is_judged_on_the_scale_of_what_can_be_recognised():
    assert content_of(0.4, 0.8, None) == pytest.approx(0.5)
    assert content_of(0.4, 0.8, 0.9) == pytest.approx(0.5)
    assert content_of(0.12, 0.8, 0.1) == pytest.approx(1.2)
    assert content_of(None, None, 0.1) is None
    assert content_of(0.1, 0.8, -0.1) is None


def test_an_adapter_whose_samples_were_scored_goes_before_others():
    assert offered(Kept("balanced", share=0.9), [(0.1, None), (0.5, None), (0.2, 0.95), (0.6, None)]) == [0, 1, 2, 2]


@pytest.mark.parametrize("rule", ["skill", "balanced", "last"])
def test_without_held_out_pictures_the_last_is_kept(rule):
    keeper = Kept(rule)
    assert offered(keeper, [(None, 0.9), (None, 0.1), (None, None)]) == [0, 1, 2]
    assert "no skill was measured" in keeper.warning


def test_last_keeps_the_last():
    assert offered(Kept("last"), [(0.9, 1.0), (0.1, 0.2)]) == [0, 1]


@pytest.mark.parametrize("skills", [[0.1, 0.3, 0.2, 0.3], [0.1, 0.2, 0.3]])
def test_a_resumed_run_keeps_what_a_straight_one_does(skills):
    straight, first = Kept(), Kept()
    whole = [straight.offer(epoch, epoch, skill, None) for epoch, skill in enumerate(skills)]
    for epoch, skill in enumerate(skills[:2]):
        first.offer(epoch, epoch, skill, None)
    resumed = Kept(**dataclasses.asdict(first))
    assert [resumed.offer(e, e, skill, None) for e, skill in enumerate(skills[2:], start=2)] == whole[2:]
    assert resumed == straight


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_a_share(share):
    with pytest.raises(InputError, match="keep_share"):
        Kept(share=share).check()


@pytest.mark.parametrize(("rule", "kept"), [("skill", [1, 2]), ("balanced", [1, 2]), ("last", [1, 2])])
@pytest.mark.parametrize("before", ["skill", "balanced", "last"])
def test_a_resumed_run_may_have_another_rule(before, rule, kept):
    """It compares what comes with what was kept by the rule of its own."""
    first = Kept(before)
    offered(first, [(0.1, 1.0)])
    resumed = Kept(**dataclasses.asdict(first) | {"rule": rule})
    assert offered(resumed, [(0.2, 1.0), (0.3, 1.0)]) == kept
