"""What is said of captions and prompts that are too long."""

import logging
from types import SimpleNamespace

import pytest

from datamodules import Prompts
from stylelora.base.load import MINI, load_tokenizer
from stylelora.base.token_limit import cut_off, say_cut_off
from stylelora.diffusion.conditions import CONTENT, Condition


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MINI)


def test_begin_and_end_count_and_the_rest_is_cut_off(tokenizer):
    assert [cut_off(tokenizer, "a " * count) for count in (0, 75, 76, 100)] == [0, 0, 1, 25]


def test_it_is_said_once_with_the_first_text(tokenizer, caplog):
    texts = ["a cat", "a " * 80 + "b", "a " * 100, "a " * 100]
    with caplog.at_level(logging.WARNING):
        say_cut_off(tokenizer, texts)
    (said,) = caplog.messages
    assert said == (
        "2 of 3 captions and prompts have more than 77 tokens, and what comes after has no effect: 6 tokens of the "
        f"first, '{'a ' * 40}...'; shorten them"
    )
    caplog.clear()
    say_cut_off(tokenizer, ["a cat", ""])
    assert not caplog.messages


def test_predict_says_it_of_prompts_with_their_trigger_and_of_negative_prompts(tokenizer, caplog):
    def prepare(template, **options):
        caplog.clear()
        conditions = [Condition("sum", (), 2, 4.0), Condition("sum", (), 2, 4.0, prompt_template=template)]
        module = SimpleNamespace(conditions=conditions, adapters=[], painter=SimpleNamespace(tokenizer=tokenizer))
        module.hparams = SimpleNamespace(base="mini")
        data = Prompts(samples_per_prompt=5, **options)
        data.trainer = SimpleNamespace(lightning_module=module)
        data.prepare_data()
        return caplog.messages

    assert prepare(CONTENT, prompts=["a " * 75]) == []
    (said,) = prepare("one, {}", prompts=["a " * 75])
    assert "1 of 3 captions and prompts have more than 77 tokens" in said and "2 tokens of the first, 'one, a a" in said
    (said,) = prepare(CONTENT, prompts=["a cat"], negative_prompt="b " * 80)
    assert "5 tokens of the first, 'b b" in said
