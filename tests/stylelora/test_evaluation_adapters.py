"""Adapters that are tested otherwise than they were trained."""

from dataclasses import dataclass, field

import pytest

from stylelora.data.scan import content_hash
from stylelora.evaluation.adapters import doubts, styles_of
from stylelora.lora.read import Adapter
from stylelora.records import InputError

AS_TRAINED = {
    "base": "models/sd",
    "style": "ink",
    "trigger": "inkstyle",
    "resolution": "64",
    "held_out": content_hash([]),
}


@dataclass
class Data:
    trigger: str = "inkstyle"
    resolution: int = 64
    held_out: list = field(default_factory=list)


def said(notes=None, data=None, base="elsewhere/sd", side=64):
    adapter = Adapter("a", {}, {}, "", AS_TRAINED | (notes or {}))
    return list(doubts([adapter], {"ink": Data()} if data is None else data, base, side))


def test_what_is_tested_as_it_was_trained_raises_no_doubt():
    assert said() == []
    assert said({"style": "oil"}, {"oil": Data()}) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": {"ink": Data(trigger="other")}}, "a was trained with trigger inkstyle, not other"),
        ({"data": {"ink": Data(resolution=32)}}, "a was trained with resolution 64, not 32"),
        ({"side": 128}, "a was trained with resolution 64, not 128"),
        ({"base": "mini"}, "a was trained with base sd, not mini"),
        ({"notes": {"held_out": "others"}}, "may have been trained on some of the pictures of ink"),
        ({"data": {}}, "no data for the style of a (ink)"),
    ],
)
def test_each_difference_is_said(changed, words):
    (line,) = said(**changed)
    assert words in line


def test_a_file_that_says_nothing_of_itself_is_not_doubted_for_it_and_a_style_without_adapter_is_named():
    silent = Adapter("ink", {}, {}, "", {"held_out": content_hash([])})
    (line,) = doubts([silent], {"ink": Data(), "oil": Data()}, "mini", 64)
    assert line.startswith("no adapter of the styles oil")


def test_two_adapters_of_one_style_cannot_be_told_apart():
    with pytest.raises(InputError, match="adapters of the same style"):
        styles_of([Adapter(name, {}, {}, "", {"style": "ink"}) for name in "ab"])
