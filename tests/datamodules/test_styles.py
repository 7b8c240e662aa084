import dataclasses
import itertools
import logging
import shutil
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import Anime, Cartoon, Pixelart, Pixelart32, StyleDataModule, Watercolor
from datamodules.batches import EpochSampler, ShareSampler, TrainingLoader
from stylelora.data.buckets import batches_of
from stylelora.records import InputError
from tests.datamodules.contract import StyleContract


class TestWatercolor(StyleContract):
    style, pictures = Watercolor, 92


class TestCartoon(StyleContract):
    style, pictures = Cartoon, 94


class TestAnime(StyleContract):
    style, pictures = Anime, 89

    def test_tags_are_shown_in_other_orders_in_other_epochs(self, build):
        data = build(keep_tags=0)
        loader = data.train_dataloader()
        seen = {}
        for epoch in range(6):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                for name, text in zip(batch["sha256"], batch["text"], strict=True):
                    seen.setdefault(name, set()).add(tuple(text.flatten()[:2000].tolist()))
        few = {picture.sha256: picture.text.split(", ") for picture in data.train if picture.text.count(", ") < 3}
        assert sum(len(seen.get(name, ())) > 1 for name, tags in few.items() if len(tags) > 1) > 10
        for name, tags in list(few.items())[:12]:
            orders = [data.caption(", ".join(order)) for order in itertools.permutations(tags)]
            assert seen.get(name, set()) <= {
                tuple(data.encoded.text(text).flatten()[:2000].tolist()) for text in orders
            }


class TestPixelart(StyleContract):
    style, pictures = Pixelart, 99

    def test_pixels_stay_hard(self):
        assert Pixelart().dataset.framing.interpolation == "nearest"
        assert Pixelart(interpolation="box").dataset.framing.interpolation == "box"


class TestPixelart32(StyleContract):
    style, pictures = Pixelart32, 95


def test_styles_have_triggers_of_their_own():
    assert len({style().trigger for style in (Anime, Cartoon, Pixelart, Pixelart32, Watercolor)}) == 5
    assert Anime(trigger="zqx").caption("a cat") == "zqx, a cat"


def test_a_folder_needs_a_trigger(pictures):
    with pytest.raises(InputError, match="trigger"):
        StyleDataModule(root=str(pictures))
    with pytest.raises(InputError, match="this style comes without pictures"):
        StyleDataModule(trigger="zqx")


def test_another_caption_is_another_hash():
    data = Anime()
    from stylelora.data.scan import scan_folder

    data.dataset.train = scan_folder(data.dataset.root)[:5]
    first = data.dataset_hash
    data.dataset.train = data.train[::-1]
    assert data.dataset_hash == first
    data.train[0] = dataclasses.replace(data.train[0], text="something else")
    assert data.dataset_hash != first


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [12, 13, 17])
def test_an_epoch_is_dealt_out_without_repeats(count, world):
    shares = [list(EpochSampler([0] * count, 2, world, rank, seed=0)) for rank in range(world)]
    samplers = [EpochSampler([0] * count, 2, world, rank, seed=0) for rank in range(world)]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    rows = [row for share in shares for row in share]
    assert len(set(rows)) == len(rows) == count // (2 * world) * 2 * world
    assert set(rows) <= set(range(count))


def test_what_one_epoch_leaves_out_another_shows():
    sampler, seen = EpochSampler([0] * 7, 3, 1, 0, seed=0), set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        seen |= set(sampler)
    assert seen == set(range(7))


class Numbers(torch.utils.data.Dataset):
    """Gives whole batches, as TrainingBatches does: their samples' numbers and epochs."""

    def __len__(self):
        return 12

    def __getitems__(self, samples):
        return {"rows": [(int(sample), sample.epoch) for sample in samples]}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_goes_on_within_its_epoch_and_begins_the_next_from_the_start(workers):
    def loader():
        sampler = EpochSampler([0] * 12, 2, 1, 0, seed=3)
        return TrainingLoader(Numbers(), 2, sampler=sampler, collate_fn=dict, num_workers=workers)

    def epoch(of, number):
        batches = iter(of)
        of.sampler.set_epoch(number)  # after `iter`, as Lightning does on resume
        return [batch["rows"] for batch in batches]

    straight = loader()
    first, second = epoch(straight, 0), epoch(straight, 1)
    assert {epoch for batch in second for _, epoch in batch} == {1}
    broken = iter(stopped := loader())
    assert [next(broken)["rows"] for _ in range(4)] == first[:4]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert (epoch(resumed, 0), epoch(resumed, 1)) == (first[4:], second)
    whole = loader()
    whole.load_state_dict(straight.state_dict())
    assert epoch(whole, 1) == second


def test_shuffling_depends_on_the_seed_and_not_on_the_global_generator():
    orders = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        orders.append(list(EpochSampler([0] * 50, 1, 1, 0, seed)))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_hold_everything_once(world):
    shares = [list(ShareSampler(4, world, rank)) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == [0, 1, 2, 3]
    assert [len(share) for share in shares] == [len(ShareSampler(4, world, rank)) for rank in range(world)]


def test_samples_of_a_bucket_are_dealt_out_together():
    buckets = ["wide", "high", "high"] * 10
    sampler = EpochSampler(buckets, 2, 2, 0, seed=0), EpochSampler(buckets, 2, 2, 1, seed=0)
    shares = [list(one) for one in sampler]
    assert [len(share) for share in shares] == [len(one) for one in sampler] == [14, 14]  # 8 of 10 and 20 of 20
    kinds = []
    for step in range(0, 14, 2):
        batch = [row for share in shares for row in share[step : step + 2]]
        assert len({buckets[row] for row in batch}) == 1
        kinds.append(buckets[batch[0]])
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)  # not one after the other
    rows = [row for share in shares for row in share]
    assert len(set(rows)) == len(rows) == 28


def test_one_bucket_is_dealt_out_as_it_is_shuffled():
    """Adapters that were trained before there were buckets come out the same."""
    from stylelora.seeds import generator

    order = torch.randperm(50, generator=generator("shuffle", 7, 0)).tolist()
    assert list(EpochSampler([0] * 50, 4, 1, 0, seed=7)) == order[:48]
    assert list(EpochSampler([0] * 50, 2, 2, 1, seed=7)) == order[1:48:2]


def test_held_out_batches_are_of_one_bucket_and_hold_all():
    assert batches_of(["a"] * 5, 2) == [[0, 1], [2, 3], [4]]
    assert batches_of(["a", "b", "a", "a", "b"], 2) == [[0, 2], [3], [1, 4]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_upscale": True}, "no_upscale needs buckets of several sizes; turn buckets on"),
        ({"source_size": 8, "buckets": True}, "turn one of them off"),
        ({"upscale_interpolation": "nearest"}, "upscale_interpolation has no effect without source_size; give both"),
        ({"source_size": 0}, "source_size is 0; it must be at least 1 and at most the resolution, 64"),
        ({"source_size": 65}, "source_size is 65; it must be at least 1 and at most"),
        ({"source_size": 48, "upscale_interpolation": "nearest"}, "64 is no multiple of source_size 48"),
        ({"source_size": 8, "upscale_interpolation": "blurry"}, "interpolation 'blurry' is unknown"),
        ({"interpolation": "blurry"}, "interpolation 'blurry' is unknown"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Watercolor(resolution=64, **options)


class TestPreparing:
    """What is said and done once, in the first process."""

    @pytest.fixture
    def data(self, tiny_sd, tmp_path):
        def build(root, **options):
            options = {"trigger": "zqx", "resolution": 64, "batch_size": 2, "cache": str(tmp_path / "cache"), **options}
            data = StyleDataModule(root=str(root), held_out=0.4, **options)
            data.trainer = SimpleNamespace(
                lightning_module=SimpleNamespace(
                    base=str(tiny_sd), hparams=SimpleNamespace(clip_skip=1, guidance_scale=4.0)
                ),
                strategy=SimpleNamespace(root_device=torch.device("cpu")),
                world_size=1,
                global_rank=0,
            )
            return data

        return build

    def test_setup_reads_no_picture_and_says_nothing_again(self, data, pictures, caplog, monkeypatch):
        data = data(pictures)
        with caplog.at_level(logging.WARNING):
            data.prepare_data()
        assert caplog.text.count("8 of 8 pictures in") == 1
        assert "are smaller than 64 px and are enlarged, the smallest from 50 px" in caplog.text
        monkeypatch.setattr("stylelora.data.dataset.scan_folder", None)
        caplog.clear()
        data.setup("fit")
        assert len(list(data.train_dataloader())) == 2
        assert caplog.text == ""

    def test_all_that_cannot_be_decoded_are_named_before_anything_is_encoded(self, data, pictures, tmp_path):
        """The headers of these are sound."""
        root = shutil.copytree(pictures, tmp_path / "style")
        for name in ("1.bmp", "5.bmp"):
            (root / name).write_bytes((root / name).read_bytes()[:2000])
        with pytest.raises(
            InputError, match=r"2 pictures in .*style cannot be read \(1.bmp, 5.bmp\); replace or remove"
        ):
            data(root).prepare_data()
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize(("resolution", "far"), [(64, False), (128, True)])
    def test_a_resolution_far_from_the_bases_own_is_said(self, data, pictures, tiny_sd, caplog, resolution, far):
        with caplog.at_level(logging.WARNING):
            data(pictures, resolution=resolution).prepare_data()
        said = (
            f"resolution is 128 px but {tiny_sd} was made for 64 px, so expect poor pictures; give --data.resolution 64"
        )
        assert caplog.text.count(said) == caplog.text.count("was made for") == far

    def test_pictures_too_small_for_a_source_size_are_refused(self, data, pictures):
        with pytest.raises(
            InputError, match=r"5 of 5 pictures in .* are smaller than source_size 64, the smallest has 50"
        ):
            data(pictures, source_size=64).prepare_data()

    def test_pictures_too_small_for_no_upscale_are_refused(self, data, pictures):
        with pytest.raises(InputError, match="8 pictures have fewer than 64 pixels on a side, the smallest 50"):
            data(pictures, resolution=128, buckets=True, no_upscale=True).prepare_data()


class Shown(L.LightningModule):
    """Trains one number; remembers the samples of each step."""

    def __init__(self):
        super().__init__()
        self.number, self.rows = torch.nn.Parameter(torch.ones(())), []

    def training_step(self, batch, batch_idx):
        self.rows.append(batch["rows"])
        return self.number**2

    def train_dataloader(self):
        return TrainingLoader(Numbers(), 2, sampler=EpochSampler([0] * 12, 2, 1, 0, seed=3), collate_fn=dict)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize("at", [2, 6, 8, 12])
def test_a_resumed_run_sees_what_a_straight_one_does(tmp_path, at):
    """From checkpoints within epochs of six steps, and after their last."""

    def fit(*callbacks, ckpt_path=None):
        trainer = L.Trainer(
            default_root_dir=tmp_path, callbacks=list(callbacks), max_epochs=3, accelerator="cpu", logger=False,
            enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        module = Shown()
        trainer.fit(module, ckpt_path=ckpt_path)
        return module.rows

    straight = fit(ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1))
    assert len(straight) == 18
    assert fit(ckpt_path=tmp_path / f"step={at}.ckpt") == straight[at:]
