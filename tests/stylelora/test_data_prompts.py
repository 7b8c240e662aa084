"""Prompts with options: kohya's lines, records of YAML, JSON and TOML, and what is refused or said of them."""

import logging
import re

import pytest

from stylelora.base.load import MINI
from stylelora.data.prompt_checks import check_prompts, warnings_of
from stylelora.data.prompts import SamplePrompt, choose_prompts, read_prompts
from stylelora.records import InputError

FULL = SamplePrompt("a cat", "blurry, low", 512, 768, 42, 28, 7.5)
LINE = "a cat --n blurry, low --w 512 --h 768 --d 42 --l 7.5 --s 28"


def test_a_line_of_kohyas_has_all_options_in_any_order():
    assert SamplePrompt.of_line(LINE, "") == FULL
    assert SamplePrompt.of_line("a cat  --S 28 --L 7.5 --d=42 --h 768 --w 512 --N blurry, low", "") == FULL
    assert SamplePrompt.of_line("a cat", "") == SamplePrompt("a cat")
    plain = "a well-known cat -- in the snow--deep - 3"
    assert SamplePrompt.of_line(plain, "") == SamplePrompt(plain)
    assert SamplePrompt.of_line("a --d 123456789012345678901", "").seed == 123456789012345678901


def test_lines_of_a_file_with_comments_and_blank_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"\ufeff# mine\r\n{LINE}\r\n\r\n   \n  # a --w x\na dog\n", encoding="utf-8")
    first, second = read_prompts(file)
    assert (first, second) == (FULL, SamplePrompt("a dog"))
    assert first.where.endswith("prompts.txt line 2") and second.where.endswith("prompts.txt line 6")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "- {prompt: a cat, negative_prompt: 'blurry, low', width: 512, height: 768, seed: 42,\n"
         "   num_inference_steps: 28, guidance_scale: 7.5}\n- " + LINE),
        ("a.yml", "- {prompt: a cat --w 512 --h 768, negative_prompt: 'blurry, low', seed: 42,\n"
         f"   num_inference_steps: 28, guidance_scale: 7.5}}\n- {{prompt: '{LINE}', width: null}}"),
        ("b.json", '[{"prompt": "a cat", "negative_prompt": "blurry, low", "width": 512, "height": 768, "seed": 42, '
         '"sample_steps": 28, "scale": 7.5}, "' + LINE + '"]'),
        ("c.toml", '[prompt]\nwidth = 512\nheight = 1\n'
         'negative_prompt = "blurry, low"\nscale = 7.5\nsample_steps = 28\n'
         + 2 * '[[prompt.subset]]\nprompt = "a cat"\nheight = 768\nseed = 42\n'),
    ],
)  # fmt: skip
def test_records(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_prompts(tmp_path / name) == [FULL, FULL]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a cat\na dog --w nan", "line 2: --w is nan; give a whole number of at least 1"),
        ("a --h 0", "line 1: --h is 0"),
        ("a --w -64", "--w is -64"),
        ("a --w 64.5", "--w is 64.5"),
        ("a --d -1", "--d is -1; give a whole number of at least 0"),
        ("a --s 0", "--s is 0"),
        ("a --s 1001", "at most 1000"),
        ("a --l nan", "--l is nan; give a number of at least 0"),
        ("a --l inf", "--l is inf"),
        ("a --l -1", "--l is -1"),
        ("a --l many", "--l is many"),
        ("a --n --w 64", "--n has no value"),
        ("a --w 64 --W 64", "gives --W twice"),
        ("--w 64", "has options but no prompt"),
        ("# nothing\n", "has no prompts"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path, text, said):
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_prompts(tmp_path / "prompts.txt")
    assert str(error.value).startswith(str(tmp_path / "prompts.txt"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "- {prompt: a cat, width: .nan}", "prompt 1: width is nan"),
        ("a.yaml", "- {prompt: a cat, seed: true}", "prompt 1: seed is True"),
        ("a.yaml", "- {width: 64}", "prompt 1 has no prompt"),
        ("a.yaml", "- 3", "prompt 1 has no prompt"),
        ("a.yaml", "prompts: [a cat]", "holds no list"),
        ("a.yaml", "[a", "is not YAML"),
        ("a.json", "[", "is not JSON"),
        ("a.toml", "x", "is not TOML"),
        ("a.toml", "prompt = 3", "has no list of [[prompt.subset]]"),
        ("a.json", "[]", "has no prompts"),
    ],
)
def test_a_wrong_record_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        read_prompts(tmp_path / name)


def test_a_list_a_file_or_the_defaults(tmp_path):
    (tmp_path / "p.txt").write_text("a dog --n none")
    assert choose_prompts(None, None, "file", "bad", ["a tree"]) == [SamplePrompt("a tree", "bad")]
    assert choose_prompts(["a cat --d 3"], None, "file", "bad", []) == [SamplePrompt("a cat", "bad", seed=3)]
    assert choose_prompts(None, str(tmp_path / "p.txt"), "file", "bad", []) == [SamplePrompt("a dog", "none")]
    with pytest.raises(InputError, match=r"give data\.prompts or data\.prompts_file, not both"):
        choose_prompts(["a"], "p.txt", "prompts_file", "", [])


@pytest.mark.parametrize("line", ["a cat --w 70", "a cat --w 64 --h 24"])
def test_a_size_that_the_base_cannot_make_is_refused(line):
    prompt = SamplePrompt.of_line(line, "p.txt line 7")
    with pytest.raises(InputError, match=r"p.txt line 7: (width 70|height 24) does not suit .* multiple of 16"):
        check_prompts([prompt], MINI, [4.0])
    check_prompts([SamplePrompt.of_line("a cat --w 96 --h 16", "")], MINI, [4.0])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a --ss euler_a", ["--ss is ignored: all prompts are sampled with the base's scheduler"]),
        ("a --cn x.png", ["--cn is ignored: there are no ControlNets"]),
        ("a --ctr 0.5", ["--ctr is ignored: it is for newer models"]),
        ("a --x 3", ["--x is ignored: it is no option of a prompt; these are --n, --w, --h, --d, --s, --l"]),
        ("a (red:1.4) cat", ["'(red:1.4)' is no weight but read as text"]),
        ("a ((red)) cat", ["'(red)' is no weight but read as text"]),
        ("a [red] cat", ["'[red]' is no weight but read as text"]),
        (r"a cat \(toy\)", [r"'\\(' is read as text, backslash and all"]),
        ("a cat <lora:ink:0.8>", ["'<lora:ink:0.8>' loads nothing"]),
        ("a cat <hypernet:ink:1>", ["'<hypernet:ink:1>' loads nothing"]),
        ("a cat BREAK a dog", ["'BREAK' is read as a word"]),
        ("a cat AND a dog", ["'AND' is read as a word"]),
        ("a {red|blue} cat", ["'{red|blue}' is not replaced"]),
        ("a __colour__ cat", ["'__colour__' is not replaced"]),
        ("a cat --n (bad:1.2)", ["'(bad:1.2)' is no weight"]),
        ("a cat --n bad --l 1", ["the negative prompt 'bad' has no effect at a guidance scale of 1"]),
        ("a cat and a dog, breaking; 3:4 ratio --n bad --l 2", []),
    ],
)
def test_what_has_no_effect_is_said_in_a_sentence(line, said, caplog):
    prompt = SamplePrompt.of_line(line, "p.txt line 1")
    with caplog.at_level(logging.WARNING):
        check_prompts([prompt], MINI, [7.5])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(said)
    assert all(message.startswith(f"p.txt line 1: {one}") for message, one in zip(messages, said, strict=True))


def test_each_kind_is_said_once_for_all_prompts():
    prompts = [SamplePrompt.of_line("a (b:2) --ss x", f"line {i}") for i in range(3)]
    assert [one.partition(":")[0] for one in warnings_of(prompts, [4.0])] == ["line 0 and 2 more"] * 2
    assert warnings_of([SamplePrompt("a", "bad")], [1.0])[0].startswith("prompt 'a': the negative prompt 'bad' has no")
    assert not warnings_of([SamplePrompt("a", "bad", guidance_scale=2.0)], [1.0])


def test_a_trigger_word_is_not_put_in_front_twice():
    assert SamplePrompt.of_line("zqx, a cat,  red", "").without("zqx") == SamplePrompt("a cat, red")
    plain = SamplePrompt("a zqx cat")
    assert plain.without("zqx") is plain
    (said,) = warnings_of([SamplePrompt("zqx, a cat").without("zqx")], [4.0])
    assert "'zqx' is put in front of all prompts" in said
