"""The desk's settings: an address, a config and a note that say the same."""

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
import yaml

from stylelora.desk.mix import MOST_PICTURES, Mix
from stylelora.records import InputError
from tests.runs import holds

PROMPTS = ("a cat, sitting", "ein Bär & 1 + 1 = 2 #")
MIX = Mix(("ink", "oil"), (0.6, 0.45), 7.5, 12, PROMPTS, (3, 11), "blurry", 0.8, "ties", ("oil",))
PLAIN = Mix((), (), 4.0, 12, ("a cat",))


def test_an_address_brings_every_setting_back():
    address = MIX.address()
    assert Mix.of_address(dict(parse_qsl(address, keep_blank_values=True)), PLAIN) == MIX
    assert Mix.of_address({}, MIX) == MIX
    assert Mix.of_address({"seeds": "[5]", "__theme": "dark"}, MIX) == replace(MIX, seeds=(5,))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"seeds": "[1"}, "the address's seeds"),
        ({"seeds": "7"}, "no settings of the desk"),
        ({"seeds": '["x"]'}, "no settings of the desk"),
        ({"weights": "[1]"}, "give each LoRA one weight"),
        ({"adapters": str(list("abcdefghi")).replace("'", '"'), "weights": str([1] * 9)}, "at most 8"),
        ({"strength": "null"}, "no settings of the desk"),
        ({"weights": "[NaN, 1]"}, "no settings of the desk"),
        ({"guidance_scale": "Infinity"}, "no settings of the desk"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(query, said):
    with pytest.raises(InputError, match=said):
        Mix.of_address(query, MIX)


def test_seeds_are_whole_numbers_of_at_least_0(tiny_sd):
    gr = pytest.importorskip("gradio")
    from stylelora.desk.controls import Controls
    from stylelora.desk.drawing import Desk

    with gr.Blocks():
        controls = Controls(Desk(str(tiny_sd)), PLAIN)
    values = [one.value for one in controls.all]
    place = controls.all.index(controls.seeds)
    assert controls.read([*values[:place], "3, 11", *values[place + 1 :]]).seeds == (3, 11)
    for wrong in ("x", "1.5", "-1"):
        with pytest.raises(InputError, match=f"the seeds are '{wrong}'"):
            controls.read([*values[:place], wrong, *values[place + 1 :]])


def test_columns_are_the_base_each_lora_and_the_blend_each_once():
    assert MIX.columns() == [(0, 0), (1, 0), (0, 1), (0.6, 0.45)]
    assert replace(MIX, weights=(0, 1)).columns() == [(0, 0), (1, 0), (0, 1)]
    assert PLAIN.columns() == [()]


def test_the_config_names_what_is_drawn(tmp_path):
    text = MIX.config(
        "mini", {"ink": tmp_path / "a.safetensors", "oil": tmp_path / "b.safetensors"}, {"ink": "i", "oil": "o"}
    )
    model = {
        "adapters": [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")], "base": "mini",
        "weights": [[1, 0], [0, 1], [0.6, 0.45]], "methods": ["ties"], "strengths": [0.8], "guidance_scales": [7.5],
        "num_inference_steps": 12, "triggers": ["i", ""],
    }  # fmt: skip
    prompts = [f"{prompt} --d {seed}" for prompt in MIX.prompts for seed in (3, 11)]
    data = {"prompts": prompts, "negative_prompt": "blurry"}
    assert holds(yaml.safe_load(text), {"model": {"init_args": model}, "data": {"init_args": data}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompts": ()}, "nothing to draw"),
        ({"seeds": ()}, "nothing to draw"),
        ({"seeds": tuple(range(MOST_PICTURES))}, "give fewer"),
        ({"seeds": (-1,)}, "--d is -1"),
        ({"prompts": ("a cat --d 3",)}, "'a cat --d 3' has a seed of its own; write it into Seeds"),
        ({"prompts": ("a cat --w 264",)}, "larger picture than the desk draws; give sides up to 256 pixels"),
        ({"prompts": ("a cat", "a dog --h 99999999")}, "'a dog --h 99999999' asks for a larger"),
        ({"prompts": ("a cat --w x",)}, "^'a cat --w x': --w is x"),
        ({"num_inference_steps": 1001}, "1 to 1000"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"weights": (0.6, float("nan"))}, "not a number of at least 0"),
        ({"method": "magic"}, "no method is called 'magic'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is(change, said, adapter_files):
    from stylelora.lora.read import read_adapters

    with pytest.raises(InputError, match=said):
        replace(MIX, **change).check(read_adapters(adapter_files), 64)
