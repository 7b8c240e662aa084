"""The text in a picture, read back by the rules of AUTOMATIC1111's web UI and of CivitAI, as these state them."""

import json
import re

import pytest

from stylelora.runs.infotext import infotext

ROW = {
    "prompt": "inkstyle, a cat",
    "negative_prompt": "",
    "num_inference_steps": 12,
    "scheduler": "PNDMScheduler",
    "guidance_scale": 4.0,
    "seed": 7,
    "base": "mini",
    "label": "ink 0.6 + oil 0.4",
    "method": "sum",
    "strength": 1.0,
}
HARD = [
    "C:\\models\\my base, v1.5: final",
    'a "quoted" word',
    '"a watercolor of {}"',
    '"',
    "two\nlines",
    "Steps: 3, Seed: 9",
    "ends in a backslash\\",
    'a\\"b',
    " spaces ",
    "ünïcode 狐, 🦊",
]


def as_a1111(text):
    """Its last line has the settings: a name, a colon, and JSON in quotes, or what has no comma."""
    pattern = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    *lines, last = text.strip().split("\n")
    assert len(pattern.findall(last)) >= 3
    parts = {"prompt": [], "negative": []}
    part = "prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            part, line = "negative", line.removeprefix("Negative prompt:").strip()
        parts[part].append(line)
    found = {name: value for name, value in pattern.findall(last)}
    found = {k: json.loads(v) if v[:1] == v[-1:] == '"' else v for k, v in found.items()}
    return {name: "\n".join(some) for name, some in parts.items()} | found


def as_civitai(text):
    """Its settings are the first line that begins with `Steps: `; a quote ends and begins, whatever is before it."""
    lines = [line for line in text.split("\n") if line.strip()]
    details = next(line for line in lines if line.startswith("Steps: "))
    lines.remove(details)
    prompt, *negative = (part.strip() for part in "\n".join(lines).split("Negative prompt:"))
    found, name, value, inside = {}, "", "", False
    for letter in details:
        if letter == '"':
            if inside:
                found[name], name = value.strip(), ""
            inside = not inside
        elif letter == ":" and not inside:
            name, value = value.strip(), ""
        elif letter == "," and not inside:
            found |= {name: value.strip()} if name else {}
            name = value = ""
        else:
            value += letter
    found |= {name: value.strip()} if name else {}
    return {"prompt": prompt, "negative": " ".join(negative)} | found


def test_plain_settings_stand_as_before():
    text = infotext(ROW | {"negative_prompt": "blurry"}, 64, 128)
    assert text == (
        "inkstyle, a cat\nNegative prompt: blurry\nSteps: 12, Sampler: PNDMScheduler, CFG scale: 4.0, Seed: 7, "
        "Size: 64x128, Model: mini, Blend: ink 0.6 + oil 0.4, Method: sum, Strength: 1"
    )
    assert infotext(ROW, 64, 128).startswith("inkstyle, a cat\nSteps: 12, ")


@pytest.mark.parametrize("value", HARD)
def test_what_is_written_is_read_back(value):
    text = infotext(ROW | {"base": value, "label": value}, 64, 64)
    wanted = {"Model": value, "Blend": value, "Seed": "7", "Steps": "12", "Strength": "1", "prompt": "inkstyle, a cat"}
    assert as_a1111(text).items() >= wanted.items()
    found = as_civitai(text)
    assert set(found) == set(as_a1111(text))
    if '"' not in value and "\\" not in value and "\n" not in value and value == value.strip():  # it reads no JSON
        assert found.items() >= wanted.items()
    assert found.items() >= (wanted | {"Model": found["Model"], "Blend": found["Blend"]}).items()


@pytest.mark.parametrize("reader", [as_a1111, as_civitai])
@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ('a "cat", red: yes', 'a "cat", red: yes'),
        ("a cat\nNegative prompt: a dog", "a cat Negative prompt : a dog"),
        ("Steps: 3, Seed: 9, Size: 1x1", "Steps : 3, Seed: 9, Size: 1x1"),
        ("two\r\nlines\n\nof it", "two lines of it"),
    ],
)
def test_a_prompt_is_taken_for_nothing_else(reader, prompt, read):
    found = reader(infotext(ROW | {"prompt": prompt, "negative_prompt": prompt}, 64, 64))
    assert (found["prompt"], found["negative"], found["Steps"], found["Seed"]) == (read, read, "12", "7")
