"""Spellings and signs that cannot be seen."""

import pytest

from stylelora.data.captions import clean
from stylelora.data.prompts import SamplePrompt
from stylelora.data.unicode import plain, spellings

ARTIST = "\U0001f469\u200d\U0001f3a8"  # woman, joiner, palette: one emoji
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("wa\u00adter\u00adcolour", "watercolour"),
        ("\ufeffa\u200b cat\u2060", "a cat"),
        ("\u200eabc\u202c def", "abc def"),
        (f"an {ARTIST} at work", f"an {ARTIST} at work"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("cat\u200d and \u200d\u200c dog", "cat and  dog"),
        (f"{SCOTLAND} \u2764\ufe0f", f"{SCOTLAND} \u2764\ufe0f"),
        ("Lo\u0308we", "L\u00f6we"),
        ("\u0660\u0600", "\u0660\u0600"),
    ],
)
def test_what_cannot_be_seen_is_removed_and_what_joins_is_kept(written, read):
    assert plain(written) == read
    assert clean(written) == " ".join(read.split())
    assert SamplePrompt.of_line(f"a {written} --n {written}", "here").negative_prompt == read.strip()


def test_phrases_are_found_in_either_spelling():
    assert clean("ein Lo\u0308we, ein Bild von", ["ein Bild von"], "L\u00f6we") == "ein"
    assert clean("ein L\u00f6we", [], "Lo\u0308we") == "ein"


def test_control_characters_are_still_spaces():
    assert clean("a\tcat\x00on\u2028a\u00a0mat") == "a cat on a mat"


def test_spellings_of_a_name():
    assert spellings("a.png") == ["a.png"]
    assert spellings("o\u0308") == ["o\u0308", "\u00f6"] and spellings("\u00f6") == ["\u00f6", "o\u0308"]
