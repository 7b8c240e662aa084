"""Training on some of the pictures, as studies of their number do."""

import shutil

import pytest

from datamodules import EvaluationSet, StyleDataModule, Watercolor
from stylelora.records import InputError
from tests.runs import draw_pictures


def names(pictures):
    return [picture.sha256 for picture in pictures]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("many") / "style", 30)


def scanned(root, **options):
    data = StyleDataModule(root=str(root), trigger="zqx", resolution=64, held_out=0.3, **options)
    data.scan()
    return data


def test_fewer_pictures_are_among_more_and_the_held_out_ones_stay(root):
    everything = scanned(root)
    count = len(everything.train)
    some = {number: scanned(root, pictures=number) for number in (2, 5, 9, count)}
    for number, data in some.items():
        assert len(set(names(data.train))) == number == len(data.dataset.samples)
        assert names(data.held_out) == names(everything.held_out)
    assert set(names(some[2].train)) < set(names(some[5].train)) < set(names(some[9].train))
    assert names(some[count].train) == names(everything.train)  # in their order, so all runs as ever
    assert some[count].dataset_hash == everything.dataset_hash != some[9].dataset_hash


def test_names_and_the_random_seed_do_not_matter_and_the_own_seed_does(root, tmp_path, monkeypatch):
    few = set(names(scanned(root, pictures=5).train))
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    copy = shutil.copytree(root, tmp_path / "copy")
    for number in range(30):
        for ending in ("bmp", "txt"):
            (copy / f"{number}.{ending}").rename(copy / f"{99 - number}.{ending}")
    assert set(names(scanned(copy, pictures=5).train)) == few
    others = [frozenset(names(scanned(root, pictures=5, pictures_seed=seed).train)) for seed in range(60)]
    assert others[0] == few and len(set(others)) > 50
    assert set().union(*others) == set(names(scanned(root).train))  # none is left out by all


def test_an_epoch_shows_the_chosen_ones_as_often_as_repeats_say(prepare, root):
    data = prepare(root, pictures=3, repeats=4, flip=True)
    shown = [name for batch in data.train_dataloader() for name in batch["sha256"]]
    assert sorted(shown) == sorted(names(data.train) * 4) and len(data.train) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": 0}, "pictures must be at least 1"),
        ({"pictures_seed": 1}, "pictures_seed has no effect without pictures; give both or neither"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Watercolor(resolution=64, **options)


def test_more_pictures_than_there_are_are_refused(root):
    count = len(scanned(root).train)
    with pytest.raises(InputError, match=rf"pictures is 99, but .*style has {count} to train on; give at most as many"):
        scanned(root, pictures=99)


def test_a_test_compares_with_the_pictures_that_were_trained_on(root):
    data = EvaluationSet([StyleDataModule(root=str(root), trigger="zqx", resolution=64, pictures=4)])
    (style,) = data.styles.values()
    style.dataset.scan()
    style.dataset.choose_sizes(16)
    assert len(data.images("style", "train")) == 4
