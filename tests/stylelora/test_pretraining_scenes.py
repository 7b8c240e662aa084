"""Scenes show what their words say."""

import numpy as np
import pytest

from stylelora.pretraining.recolour import COLOURS, colour_name, hue_saturation_value, recolour
from stylelora.pretraining.scenes import NUMBERS, Scene, describe, draw, held_out, plural, scenes_of


def icon(rgb, side=64):
    """A disc of one colour with a dark rim and a light spot, RGBA."""
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    away = np.hypot(x, y)
    picture = np.zeros((side, side, 4), np.uint8)
    picture[away < 26] = (20, 20, 20, 255)
    picture[away < 23] = (*rgb, 255)
    picture[np.hypot(x + 8, y + 8) < 5] = (250, 250, 250, 255)
    return picture


def test_hue_saturation_value_is_that_of_colorsys():
    import colorsys

    pixels = np.random.default_rng(0).integers(0, 256, (200, 3))
    hue, saturation, value = hue_saturation_value(pixels)
    want = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in pixels])
    assert np.allclose(hue / 360 % 1, want[:, 0], atol=1e-9)
    assert np.allclose(saturation, want[:, 1])
    assert np.allclose(value, want[:, 2])


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("own", [(215, 40, 45), (60, 165, 70), (200, 200, 200)])
def test_a_painted_icon_has_its_colour_and_keeps_its_lines(colour, own):
    before = icon(own)
    after = recolour(before, colour)
    assert colour_name(draw(before, Scene(colour=colour))) == colour
    assert np.array_equal(after[..., 3], before[..., 3])
    assert after[32, 8, :3].max() < 60, "the rim stays dark"
    assert after[24, 24, :3].mean() > after[32, 40, :3].mean() + 30, "the light spot stays lighter"


def test_colours_are_named_and_white_is_no_colour():
    assert colour_name(np.full((8, 8, 3), 255, np.uint8)) == "white"
    for name, rgb in COLOURS.items():
        picture = np.full((8, 8, 3), 255, np.uint8)
        picture[2:6, 2:6] = rgb
        assert colour_name(picture) == name


def test_copies_are_as_many_and_apart():
    from benchmarks.mini.judges import count_things

    for count in (1, *NUMBERS):
        assert count_things(draw(icon((60, 165, 70)), Scene(count=count))) == count


def test_backgrounds_fill_the_frame_only():
    picture = draw(icon((215, 40, 45)), Scene(background="blue"))
    assert tuple(picture[0, 0]) == COLOURS["blue"]
    assert tuple(picture[32, 40]) == (215, 40, 45)


def test_words_tell_the_scene():
    assert describe("owl", Scene()) == "an owl"
    assert describe("owl", Scene(colour="green")) == "a green owl"
    assert describe("mouse", Scene(count=3)) == "three mice"
    assert describe("car", Scene(background="orange")) == "a car on an orange background"
    assert [plural(name) for name in ("hot dog", "strawberry", "bus", "key", "knife", "palm tree", "fox", "bench")] == [
        "hot dogs", "strawberries", "buses", "keys", "knives", "palm trees", "foxes", "benches"
    ]  # fmt: skip


def test_some_colours_of_a_thing_are_never_shown():
    names = ("cat", "car", "apple", "owl", "key", "hat", "bus", "fish")
    pairs = [(name, colour) for name in names for colour in COLOURS]
    kept = [pair for pair in pairs if held_out(*pair)]
    assert 0.1 < len(kept) / len(pairs) < 0.3
    for name, colour in kept:
        assert Scene(colour=colour) not in scenes_of(name)
    assert not any(scene.count > 1 for scene in scenes_of("grapes"))
