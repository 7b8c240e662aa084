"""Which captions training shows of a picture."""

import random
import re
from collections import Counter

import pytest

from stylelora.data.wording import TAG_VARIANTS, Wording, alternatives, has_alternatives, shuffled_tags, thinned_tags
from stylelora.records import InputError

TAGS = "1girl, solo, red hair, smiling, park, tree, sky, dog"


def drawn_by_kohya(text, draw):
    """What sd-scripts' `enable_wildcard` makes of a caption, written down from its manual."""
    line = draw.choice([line for line in text.split("\n") if line.strip()]).strip()
    line = line.replace("{{", "⦅").replace("}}", "⦆")
    line = re.sub(r"\{([^}]+)\}", lambda match: draw.choice(match[1].split("|")), line)
    return line.replace("⦅", "{").replace("⦆", "}")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a fox", 1),
        ("a {red|blue} fox", 2),
        ("a {red|blue|} {fox|cat}", 6),
        ("a fox\na {red|blue} fox\n\n", 3),
        ("a {{red|blue}} fox", 1),
        ("{one}, an {open brace", 1),
        ("a | b", 1),
    ],
)
def test_alternatives_are_those_that_kohya_draws(text, count):
    found = alternatives(text)
    assert len(found) == len(set(found)) == count
    draw = random.Random(0)
    assert {drawn_by_kohya(text, draw) for _ in range(300)} == set(found)
    assert has_alternatives(text) == (count > 1)


def test_too_many_alternatives_are_refused():
    assert len(alternatives("{0|1}" * 6)) == 64
    with pytest.raises(InputError, match=r"a caption stands for more than 64 others, '\{0\|1\}"):
        alternatives("{0|1}" * 60)
    with pytest.raises(InputError, match="more than 64 others"):
        alternatives("\n".join(map(str, range(65))))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_tags_are_left_out_in_their_share_and_independently(share):
    texts = [f"first {i}, {', '.join(f'tag {i}.{j}' for j in range(6))}" for i in range(400)]
    left_out, pairs = Counter(), 0
    for text in texts:
        tags = text.split(", ")
        shown = [thinned_tags(text, 1, share, turn / 8).split(", ") for turn in range(8)]
        assert all(tags[0] == one[0] and one == [tag for tag in tags if tag in one] for one in shown)
        for tag in tags[1:]:
            missing = sum(tag not in one for one in shown)
            assert missing in (int(8 * share), -int(-8 * share // 1))
            left_out[missing / 8] += 1
        pairs += sum(tags[1] not in one and tags[2] not in one for one in shown)
    mean = sum(value * count for value, count in left_out.items()) / left_out.total()
    assert mean == pytest.approx(share, abs=0.01)
    assert pairs / 3200 == pytest.approx(share**2, abs=0.02)


def test_without_options_there_is_one_variant_of_each_caption():
    assert Wording("zqx").variants(["a fox"]) == ["zqx, a fox"]
    assert Wording("zqx").variants(["a fox", "a dog", "a cat"]) == ["zqx, a fox", "zqx, a dog", "zqx, a cat"]


def test_one_caption_is_shuffled_as_before_there_were_several():
    orders = [f"zqx, {shuffled_tags(TAGS, 2, seed)}" for seed in range(TAG_VARIANTS)]
    assert Wording("zqx", keep_tags=2).variants([TAGS]) == orders


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 20])
def test_captions_are_shown_equally_often(count):
    texts = [f"{i}, a, b, c" for i in range(count)]
    shown = Wording("zqx", "{text}", keep_tags=1, tag_dropout=0.2).variants(texts)
    counts = Counter(caption.split(", ")[0] for caption in shown)
    assert set(counts) == set(map(str, range(count))) and len(set(counts.values())) == 1
    assert TAG_VARIANTS <= len(shown) < TAG_VARIANTS + count or len(shown) == count


def test_tags_are_left_out_in_their_places_without_shuffling():
    shown = Wording("zqx", "{text}", tag_dropout=0.3).variants([TAGS])
    tags = TAGS.split(", ")
    assert len(set(shown)) > 4
    assert all(one.split(", ") == [tag for tag in tags if tag in one.split(", ")] for one in shown)
    assert any(not one.startswith("1girl") for one in shown)
    kept = Wording("zqx", "{text}", keep_tags=2, tag_dropout=0.3).variants([TAGS])
    assert all(one.startswith("1girl, solo") for one in kept)
    assert any(len(one.split(", ")) < 8 for one in kept)


def test_a_caption_of_nothing_is_the_trigger():
    assert Wording("zqx").caption("") == "zqx"
    assert Wording("zqx", "a picture, {trigger}, {text}").caption("") == "a picture, zqx"
    assert set(Wording("zqx", tag_dropout=0.5).variants(["fox"])) == {"zqx", "zqx, fox"}


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=rf"tag_dropout is {share}; give a probability from 0 to below 1"):
        Wording("zqx", tag_dropout=share)


def test_the_trigger_in_a_caption_is_found_only_where_it_is_added():
    assert Wording("zqx").names_trigger_twice("a fox, ZQX style")
    assert not Wording("zqx").names_trigger_twice("a zqxfox")
    assert not Wording("zqx", "{text}").names_trigger_twice("zqx, a fox")


@pytest.mark.parametrize(
    "template",
    [
        "{trigger.__class__}",
        "{trigger[0]}, {text}",
        "{0}",
        "{}",
        "{text!r:>99999999}",
        "{text!s}",
        "{text:>9}",
        "{text:{trigger}}",
        "{content}",
        "{text",
        "text}",
    ],
)
def test_a_template_holds_its_two_fields_as_they_are(template):
    with pytest.raises(InputError) as refused:
        Wording("zqx", template)
    allowed = "{trigger} and {text}, and {{ and }} for braces"
    assert str(refused.value) == f"template {template!r} may only hold {allowed}"


def test_braces_in_a_template_are_doubled():
    assert Wording("zqx", "{{{trigger}}} {text}").caption("a cat") == "{zqx} a cat"
