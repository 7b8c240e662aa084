"""`predict` with strengths, guidance scales, regions and other options of the methods."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from stylelora.runs.pictures import arranged
from tests.lightning_modules.test_composed_styles import pictures, predict


def read(folder):
    return [json.loads(line) for line in (folder / "pictures.jsonl").read_text().splitlines()]


def image(folder, **wanted):
    (row,) = [row for row in read(folder) if all(row[name] == value for name, value in wanted.items())]
    return np.asarray(Image.open(folder / row["file_name"])).astype(int)


@pytest.mark.slow
def test_every_strength_and_guidance_is_made_and_strength_multiplies_the_weights(tiny_sd, adapter_files, tmp_path):
    more = ("--model.init_args.strengths=[0.5, 1]", "--model.init_args.guidance_scales=[1, 4]")
    more += ("--data.init_args.prompts=[a cat]", "--data.init_args.samples_per_prompt=1")
    for name, weights in (("run", "[[0.6, 0.4]]"), ("half", "[[0.3, 0.2]]")):
        assert predict(tiny_sd, adapter_files, tmp_path / name, *more, weights=weights)[0] == 0
    rows = read(tmp_path / "run")
    made = [(row["label"], row["guidance_scale"], row["strength"]) for row in rows]
    blends = [("ink 0.6 + oil 0.4", guidance_scale, strength) for guidance_scale in (1, 4) for strength in (0.5, 1)]
    assert made == [("base", 1, 1), ("base", 4, 1), *blends]
    whole = image(tmp_path / "half", guidance_scale=4, strength=1.0, label="ink 0.3 + oil 0.2")
    assert np.abs(image(tmp_path / "run", guidance_scale=4, strength=0.5) - whole).max() <= 1
    assert np.abs(image(tmp_path / "run", guidance_scale=4, strength=1.0, label="ink 0.6 + oil 0.4") - whole).max() > 1


def records(**values):
    row = {"content": "a cat", "seed": 0, "label": "base", "method": "sum", "guidance_scale": 4.0, "strength": 1.0}
    return row | {"weights": [float(values.get("label", "base")[0] not in 'b"')]} | values


def test_the_base_told_in_words_stands_on_every_line_beside_the_base():
    told = '"ink of {}"'
    conditions = [records(), records(label=told)]
    conditions += [records(label="a 1", method=m, strength=s) for m in ("sum", "switch") for s in (0.5, 1.0)]
    rows = [row | {"index": (0, i), "file_name": str(i)} for i, row in enumerate(conditions)]
    headings, lines = arranged(rows, "label")
    assert headings == ["base", told, "a 1"]
    assert [files for _, files in lines] == [["0", "1", str(i)] for i in (2, 3, 4, 5)]
    headings, lines = arranged(rows, "strength")
    assert headings == ["base", told, "strength 0.5", "strength 1"]
    assert [files for _, files in lines] == [["0", "1", "2", "3"], ["0", "1", "4", "5"]]
    headings, lines = arranged(rows[:2], "label")
    assert (headings, [files for _, files in lines]) == (["base", told], [["0", "1"]])


def test_words_are_given_to_the_base_alone_and_each_once(tiny_sd, adapter_files, tmp_path):
    more = [
        '--model.init_args.prompt_baselines=["ink of {}", "ink of {}"]',
        "--model.init_args.methods=[sum, composite]",
    ]
    code, said = predict(tiny_sd, adapter_files, tmp_path, *more, weights="[[1, 0]]")
    assert code == 0, said
    rows = read(tmp_path)
    assert [row["label"] for row in rows[:4]] == ["base", '"ink of {}"', "ink 1", "ink 1"]
    assert rows[1]["prompt"] == "ink of a cat"
    assert np.abs(image(tmp_path, label='"ink of {}"', content="a cat", seed=0)
                  - image(tmp_path, label="base", content="a cat", seed=0)).max() > 2  # fmt: skip
    code, said = predict(tiny_sd, adapter_files, tmp_path / "bare", '--model.init_args.prompt_baselines=["{}"]')
    assert code != 0
    assert "prompt_baselines contains {} alone, which is the base" in said


def test_the_columns_of_the_grid_are_the_axis_asked_for_and_the_base_is_first():
    conditions = [records(guidance_scale=g) for g in (1.0, 4.0)]
    conditions += [records(label="a 1", guidance_scale=g, strength=s) for g in (1.0, 4.0) for s in (0.5, 1.0)]
    rows = [row | {"index": (0, i), "file_name": str(i)} for i, row in enumerate(conditions)]
    headings, lines = arranged(rows, "strength")
    assert headings == ["base", "strength 0.5", "strength 1"]
    assert lines == [
        ("a cat, seed 0, guidance_scale 1", ["0", "2", "3"]),
        ("a cat, seed 0, guidance_scale 4", ["1", "4", "5"]),
    ]
    headings, lines = arranged(rows, "guidance_scale")
    assert headings == ["guidance_scale 1", "guidance_scale 4"]
    assert [files for _, files in lines] == [["0", "1"], ["2", "4"], ["3", "5"]]
    assert [name for name, _ in lines] == [
        "a cat, seed 0, base",
        "a cat, seed 0, strength 0.5",
        "a cat, seed 0, strength 1",
    ]


def test_a_long_grid_goes_on_in_a_second_file(tiny_sd, adapter_files, tmp_path):
    more = (
        "--data.init_args.samples_per_prompt=21",
        "--model.init_args.num_inference_steps=1",
        "--write_pictures.columns=strength",
    )
    code, said = predict(tiny_sd, adapter_files, tmp_path, *more, weights="[[0.6, 0.4]]")
    assert code == 0, said
    with Image.open(tmp_path / "grid.png") as first, Image.open(tmp_path / "grid-2.png") as second:
        assert first.height > 15 * second.height


@pytest.mark.slow
def test_each_region_shows_its_own_adapter_and_the_base_draws_the_rest(tiny_sd, adapter_files, tmp_path):
    half = Image.new("L", (64, 64), 0)
    half.paste(255, (0, 0, 32, 64))
    half.save(tmp_path / "left.png")
    common = (
        "--model.init_args.methods=[composite]",
        "--model.init_args.num_inference_steps=1",
        "--data.init_args.prompts=[a cat]",
    )
    runs = {"plain": (), "sides": ("left", "right"), "file": (tmp_path / "left.png", "right"), "part": ("left", "left")}
    for name, regions in runs.items():
        words = json.dumps([str(region) for region in regions])
        more = (*common, f"--model.init_args.options.regions={words}") if regions else common
        code, said = predict(tiny_sd, adapter_files, tmp_path / name, *more, weights="[[1, 0], [0, 1], [0.5, 0.5]]")
        assert code == 0, said
    base, ink, oil, blend = (pictures(tmp_path / "plain")[f"000-{i:02d}.png"] for i in range(4))
    sides, part = pictures(tmp_path / "sides"), pictures(tmp_path / "part")
    assert np.abs(sides["000-03.png"] - pictures(tmp_path / "file")["000-03.png"]).max() == 0

    def nearest(picture, columns):  # the decoder mixes what is near the border
        errors = [np.abs(picture[:, columns] - one[:, columns]).mean() for one in (base, ink, oil, blend)]
        return int(np.argmin(errors))

    left, right = slice(0, 16), slice(48, 64)
    assert (nearest(sides["000-03.png"], left), nearest(sides["000-03.png"], right)) == (1, 2)
    assert (nearest(part["000-03.png"], left), nearest(part["000-03.png"], right)) == (3, 0)
    assert (nearest(sides["000-01.png"], left), nearest(sides["000-01.png"], right)) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["composite", "anchored"])
def test_one_after_the_other_is_as_all_at_once_and_the_base_may_answer_the_empty_prompt(
    tiny_sd, adapter_files, tmp_path, method
):
    runs = {"batched": "{}", "apart": "{batched: false}", "base": "{base_unconditional: true}"}
    for name, options in runs.items():
        more = (f"--model.init_args.methods=[{method}]", f"--model.init_args.options={options}")
        code, said = predict(tiny_sd, adapter_files, tmp_path / name, *more, weights="[[0.6, 0.4]]")
        assert code == 0, said
    batched, apart, base = (pictures(tmp_path / name)["000-01.png"] for name in runs)
    assert np.abs(batched - apart).max() <= 1
    assert np.abs(batched - base).max() > 1


@pytest.mark.slow
def test_half_precision_makes_nearly_the_same(tiny_sd, adapter_files, tmp_path):
    methods = "--model.init_args.methods=[sum, composite, switch]"
    for precision in ("32-true", "bf16-mixed", "bf16-true"):
        more = (methods, f"--trainer.precision={precision}")
        code, said = predict(tiny_sd, adapter_files, tmp_path / precision, *more)
        assert code == 0, said
    full = pictures(tmp_path / "32-true")
    for precision in ("bf16-mixed", "bf16-true"):
        for name, picture in pictures(tmp_path / precision).items():
            assert np.abs(picture - full[name]).mean() < 3, name
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("options", "method", "said"),
    [
        ("{density: 0}", "ties", "both are shares"),
        ("{regions: [left]}", "composite", "give each adapter one region"),
        ("{regions: [left, right]}", "sum", "sum has no regions"),
        ("{regions: [left, nowhere.png]}", "composite", "'nowhere.png' is not a picture"),
        ("{densities: 1}", "ties", "densities"),
        ("{}", "sum, --model.init_args.guidance_scales=[.nan]", "guidance_scale is nan"),
        ("{}", "sum, --model.init_args.strengths=[-1]", "strength is -1"),
    ],
)
def test_options_that_cannot_be_are_refused(tiny_sd, adapter_files, tmp_path, options, method, said):
    method, *more = method.split(", ")
    more += [f"--model.init_args.methods=[{method}]", f"--model.init_args.options={options}"]
    code, output = predict(tiny_sd, adapter_files, tmp_path / "run", *more, weights="[0.5, 0.5]")
    assert code != 0
    assert said in output
    assert not (tmp_path / "run" / "pictures").exists()
