import dataclasses

import pytest

from datamodules import Anime, Cartoon, Pixelart, StyleDataModule, Watercolor
from datamodules.sampler import EpochSampler, ShareSampler
from stylelora.records import InputError
from tests.datamodules.contract import StyleContract


class TestWatercolor(StyleContract):
    style, pictures = Watercolor, 92


class TestCartoon(StyleContract):
    style, pictures = Cartoon, 94


class TestAnime(StyleContract):
    style, pictures = Anime, 89


class TestPixelart(StyleContract):
    style, pictures = Pixelart, 95

    def test_pixels_stay_hard(self):
        assert Pixelart().kernel == "nearest"
        assert Pixelart(kernel="box").kernel == "box"


def test_styles_have_triggers_of_their_own():
    assert len({style().trigger for style in (Anime, Cartoon, Pixelart, Watercolor)}) == 4
    assert Anime(trigger="zqx").caption("a cat") == "zqx, a cat"


def test_a_folder_needs_a_trigger(pictures):
    with pytest.raises(InputError, match="trigger"):
        StyleDataModule(root=str(pictures))
    with pytest.raises(InputError, match="no embedded pictures"):
        StyleDataModule(trigger="zqx")


def test_another_caption_is_another_fingerprint():
    data = Anime()
    from stylelora.data.scan import scan_folder

    data.train, data.held_out = scan_folder(data.root)[:5], []
    first = data.fingerprint
    data.train = data.train[::-1]
    assert data.fingerprint == first
    data.train[0] = dataclasses.replace(data.train[0], text="something else")
    assert data.fingerprint != first


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [12, 13, 17])
def test_an_epoch_is_dealt_out_without_repeats(count, world):
    shares = [list(EpochSampler(count, 2, world, rank, seed=0)) for rank in range(world)]
    samplers = [EpochSampler(count, 2, world, rank, seed=0) for rank in range(world)]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    rows = [row for share in shares for row in share]
    assert len(set(rows)) == len(rows) == count // (2 * world) * 2 * world
    assert set(rows) <= set(range(count))


def test_what_one_epoch_leaves_out_another_shows():
    sampler, seen = EpochSampler(7, 3, 1, 0, seed=0), set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        seen |= set(sampler)
    assert seen == set(range(7))


def test_shuffling_depends_on_the_seed_and_not_on_the_global_generator():
    import torch

    orders = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        orders.append(list(EpochSampler(50, 1, 1, 0, seed)))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_hold_everything_once(world):
    shares = [list(ShareSampler(4, world, rank)) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == [0, 1, 2, 3]
    assert [len(share) for share in shares] == [len(ShareSampler(4, world, rank)) for rank in range(world)]
