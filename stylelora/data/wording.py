"""What training shows of a picture's captions: one of several, tags in other orders, some left out, and the trigger."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stylelora.data.captions import check_template, whole_word
from stylelora.records import InputError

#: Number of ways in which a picture's tags are shown; each is a cached text embedding.
TAG_VARIANTS = 8
#: How many captions a text with alternatives may stand for.
MOST_ALTERNATIVES = 64
_ALTERNATIVES = re.compile(r"(\{\{|\}\}|\{[^{}]+\})")


def alternatives(text: str) -> list[str]:
    """Return the captions that a text stands for, as with kohya's `enable_wildcard`.

    Each line is a caption, `{red|blue}` is either word, and `{{` and `}}` are braces.

    Raises:
        InputError: if there are more than MOST_ALTERNATIVES.
    """
    braces, captions = {"{{": ["{"], "}}": ["}"]}, []
    for line in filter(str.strip, text.split("\n")):
        parts = [braces.get(part) or _choices(part) for part in _ALTERNATIVES.split(line.strip())]
        captions += map("".join, itertools.islice(itertools.product(*parts), MOST_ALTERNATIVES + 1))
        if len(captions) > MOST_ALTERNATIVES:
            raise InputError(
                f"a caption stands for more than {MOST_ALTERNATIVES} others, {line.strip()[:60]!r}; give it fewer "
                "lines and alternatives"
            )
    return captions


def has_alternatives(text: str) -> bool:
    """Return whether a text has several lines, or words to choose from."""
    return "\n" in text.strip() or "|" in "".join(_ALTERNATIVES.findall(text))


def _choices(part: str) -> list[str]:
    return part[1:-1].split("|") if _ALTERNATIVES.fullmatch(part) else [part]


def shuffled_tags(text: str, keep: int, seed: int) -> str:
    """Shuffle comma-separated tags such as `1girl, red hair, smiling`, keeping the first `keep` in place.

    Tag order should carry no meaning, so training sees a different one every epoch.

    Args:
        text: comma-separated tags.
        keep: number of leading tags that are not shuffled.
        seed: seed of the shuffle.
    """
    tags = [tag.strip() for tag in text.split(",")]
    rest = tags[keep:]
    random.Random(seed).shuffle(rest)
    return ", ".join(tags[:keep] + rest)


def thinned_tags(text: str, keep: int, share: float, turn: float) -> str:
    """Leave out comma-separated tags, each independently with a probability, but never the first `keep`.

    Args:
        text: comma-separated tags.
        keep: number of leading tags that always stay.
        share: probability of leaving out a tag; over n evenly spaced turns, each is left out in this share of them,
            rounded up or down.
        turn: which tags are left out, 0 to below 1.
    """
    start = random.Random(text)  # each tag has its own place on the circle of turns
    tags = [(tag.strip(), (start.random() + turn) % 1) for tag in text.split(",")]
    return ", ".join(tag for number, (tag, place) in enumerate(tags) if number < keep or place >= share)


@dataclass(frozen=True)
class Wording:
    """How a content description becomes a style's caption or prompt.

    Attributes:
        trigger: trigger word of the style.
        template: template of captions and prompts, with {trigger} and {text}.
        keep_tags: treat captions as tag lists, shown in other orders with this many leading tags fixed; None: no
            shuffling.
        tag_dropout: probability of leaving out each tag after the leading ones.
        wildcards: read captions as `alternatives` does.

    Raises:
        InputError: if the template has other fields, or a number is out of range.
    """

    trigger: str
    template: str = "{trigger}, {text}"
    keep_tags: int | None = None
    tag_dropout: float = 0.0
    wildcards: bool = False

    def __post_init__(self) -> None:
        check_template(self.template)
        if self.keep_tags is not None and self.keep_tags < 0:
            raise InputError(f"keep_tags is {self.keep_tags}; give a number of tags, at least 0")
        if not 0 <= self.tag_dropout < 1:
            raise InputError(f"tag_dropout is {self.tag_dropout}; give a probability from 0 to below 1")

    @property
    def adds_trigger(self) -> bool:
        """Whether the template puts the trigger into captions."""
        return "{trigger}" in self.template

    def names_trigger_twice(self, text: str) -> bool:
        """Return whether a caption holds the trigger that the template adds."""
        return self.adds_trigger and bool(whole_word(self.trigger).search(text))

    def caption(self, text: str) -> str:
        """Return the full caption or prompt, trigger included."""
        caption = self.template.format(trigger=self.trigger, text=text)
        return caption if text else caption.strip(" ,")

    def variants(self, texts: Sequence[str]) -> list[str]:
        """Return the captions that training shows of a picture, each equally often.

        Tags are shown in at least TAG_VARIANTS ways, few enough that all are encoded before the training.

        Args:
            texts: the picture's captions, without trigger.
        """
        ways = 1 if self.keep_tags is None and not self.tag_dropout else TAG_VARIANTS
        count = len(texts) * -(-ways // len(texts))
        return [self._variant(texts[number % len(texts)], number, count) for number in range(count)]

    def _variant(self, text: str, number: int, count: int) -> str:
        if self.tag_dropout:
            text = thinned_tags(text, self.keep_tags or 0, self.tag_dropout, number / count)
        if self.keep_tags is not None:
            text = shuffled_tags(text, self.keep_tags, number)
        return self.caption(text)
