"""The base makes the pictures that keep what it knows."""

import json

import numpy as np
import pytest
from PIL import Image

from stylelora.data.prior import Prior, PriorPictures
from stylelora.diffusion.prior import RECORD, make_prior
from stylelora.diffusion.sample import initial_noise
from stylelora.records import InputError

CONTENTS = ["a red fox", "a house", "a red fox"]


@pytest.fixture
def make(cache, tmp_path):
    def run(name="prior", batch_size=2, **options):
        prior = PriorPictures(Prior(str(tmp_path / name), **options))
        make_prior(prior, CONTENTS, cache, 64, 2, 3.0, batch_size)
        return tmp_path / name

    return run


def pixels(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))}


def test_they_are_the_bases_own_of_the_captions_in_turn(make, tiny_sd):
    from diffusers import StableDiffusionPipeline

    made = pixels(folder := make(count=3))
    prompts = [(folder / f"{i:04d}.txt").read_text() for i in range(3)]
    assert set(prompts) == set(CONTENTS) and prompts[0] == prompts[2]
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.set_progress_bar_config(disable=True)
    for i, prompt in enumerate(prompts):
        start = initial_noise([f"prior {i}"], (4, 8, 8))
        (want,) = pipeline(prompt, num_inference_steps=2, guidance_scale=3.0, latents=start, height=64, width=64).images
        assert np.abs(made[f"{i:04d}.png"] - np.asarray(want)).max() <= 1
    assert not np.array_equal(made["0000.png"], made["0002.png"])  # one prompt, two seeds


def test_the_batch_size_changes_nothing_and_an_interrupted_run_goes_on(make):
    whole = pixels(make("whole", count=3, prompt="a fox"))
    folder = make("parts", batch_size=1, count=3, prompt="a fox")
    (folder / "0001.png").unlink()
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"made": 0}))  # as if it had been stopped
    make("parts", batch_size=3, count=3, prompt="a fox")
    parts = pixels(folder)
    assert parts.keys() == whole.keys() == {f"{i:04d}.png" for i in range(3)}
    assert all(np.abs(parts[name] - whole[name]).max() <= 1 for name in whole)
    assert not list(folder.glob("*.partial"))


def test_they_are_made_once_and_what_was_thrown_away_stays_away(make):
    folder = make(count=2)
    (folder / "0001.png").unlink()
    before = (folder / "0000.png").stat().st_mtime_ns
    assert set(pixels(make(count=2))) == {"0000.png"}
    assert set(pixels(make(count=3))) == {"0000.png", "0002.png"}
    assert (folder / "0000.png").stat().st_mtime_ns == before


def test_other_pictures_are_left_alone(make, tmp_path, caplog):
    (tmp_path / "prior").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "prior" / "mine.png")
    assert set(pixels(make())) == {"mine.png"} and not caplog.text


def test_another_base_or_prompt_is_said(make, caplog):
    folder = make(count=1, prompt="a fox")
    caplog.clear()
    make(count=2, prompt="a house")
    assert "another base or other prompts made the pictures in" in caplog.text
    assert set(pixels(folder)) == {"0000.png"} and (folder / "0000.txt").read_text() == "a fox"
    (folder / RECORD).write_text("[]")
    with pytest.raises(InputError, match=r"made_by.json is not what a training wrote there"):
        make(count=1, prompt="a fox")
