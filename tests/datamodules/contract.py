"""What every style's data must hold; a style's test class names the style and inherits the rest."""

import gc
import logging
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from stylelora.data.cache import View
from stylelora.data.scan import scan_folder

BATCH = 4


def rows_of(loader, epoch=0):
    """The rows of each batch of an epoch."""
    loader.sampler.set_epoch(epoch)
    return [batch["row"] for batch in loader]


class StyleContract:
    """Set `style` to the class and `pictures` to the number of its pictures."""

    style: type
    pictures: int

    @pytest.fixture(scope="class")
    def build(self, tiny_sd, tmp_path_factory):
        """Set a datamodule up as a trainer would."""
        cache = tmp_path_factory.mktemp("cache")

        def build(world_size=1, rank=0, **options):
            data = self.style(**{"resolution": 64, "batch_size": BATCH, "cache": str(cache), **options})
            data.trainer = SimpleNamespace(
                lightning_module=SimpleNamespace(
                    base=str(tiny_sd), hparams=SimpleNamespace(clip_skip=1, guidance_scale=4.0)
                ),
                strategy=SimpleNamespace(root_device=torch.device("cpu")),
                world_size=world_size,
                global_rank=rank,
            )
            data.prepare_data()
            data.setup("fit")
            return data

        return build

    @pytest.fixture(scope="class")
    def data(self, build):
        return build()

    def test_pictures_are_split_without_overlap(self, data):
        train, held_out = ({picture.sha256 for picture in side} for side in (data.train, data.held_out))
        assert not train & held_out
        assert len(data.train) + len(data.held_out) == self.pictures
        assert {picture.path for picture in [*data.train, *data.held_out]} == {
            p.path for p in scan_folder(data.dataset.root)
        }
        assert 0.08 * self.pictures < len(data.held_out) < 0.35 * self.pictures

    def test_the_help_names_the_pictures_their_source_and_their_licence(self):
        assert self.style.__doc__.startswith(f"{self.pictures} ")
        assert all(words in self.style.__doc__ for words in (self.style.style.source, self.style.style.licence))
        assert self.style.style.licence in (self.style.style.folder / "LICENSE.txt").read_text()

    def test_captions_name_the_content_and_the_trigger_the_style(self, data):
        for picture in [*data.train, *data.held_out]:
            assert picture.text.strip()
            assert data.trigger not in picture.text
            caption = data.caption(picture.text)
            assert caption.count(data.trigger) == 1
            assert picture.text in caption
        assert not any(data.trigger in content for content in (one.prompt for one in data.prompts))
        assert data.trigger.isalnum()

    def test_a_training_batch(self, data):
        batch = next(iter(data.train_dataloader()))
        assert set(batch) == {"mean", "std", "text", "empty_text", "row", "sha256", "file", "caption"}
        self.check_latents(batch, data.train, BATCH)

    def test_a_held_out_batch(self, data):
        batches = list(data.val_dataloader()[0])
        assert [name for batch in batches for name in batch["sha256"]] == [picture.sha256 for picture in data.held_out]
        self.check_latents(batches[0], data.held_out, BATCH)

    def check_latents(self, batch, members, count):
        for name in ("mean", "std"):
            assert batch[name].shape == (count, 4, 8, 8)
            assert batch[name].dtype == torch.float32
            assert batch[name].isfinite().all()
        assert (batch["std"] > 0).all()
        assert batch["text"].shape == (count, 77, 32)
        assert batch["text"].dtype == torch.float32
        assert len(batch["row"]) == count
        assert batch["sha256"] == [members[row % len(members)].sha256 for row in batch["row"]]
        assert batch["file"] == [str(members[row % len(members)].path) for row in batch["row"]]

    def test_tensors_belong_to_their_picture(self, data):
        batch = next(iter(data.train_dataloader()))
        picture = {picture.sha256: picture for picture in data.train}[batch["sha256"][1]]
        latent = data.encoded.latent(picture, View((64, 64), data.dataset.framing.interpolation))
        for name in ("mean", "std"):
            assert torch.equal(batch[name][1], latent[name])
        assert torch.equal(batch["text"][1], data.encoded.text(data.caption(picture.text)))

    def test_prompts(self, build):
        data = build(prompts=["a cat", "a dog", "a boat"], samples_per_prompt=2, sample_batch_size=4)
        batches = list(data.val_dataloader()[1])
        assert [len(batch["index"]) for batch in batches] == [4, 2]
        assert [i for batch in batches for i in batch["index"]] == list(range(6))
        assert [seed for batch in batches for seed in batch["seed"]] == [0, 1] * 3
        contents = [content for batch in batches for content in batch["content"]]
        assert contents == ["a cat", "a cat", "a dog", "a dog", "a boat", "a boat"]
        assert [prompt for batch in batches for prompt in batch["prompt"]] == [data.caption(c) for c in contents]
        first = batches[0]
        assert first["text"].shape == first["content_text"].shape == (4, 77, 32)
        assert not torch.equal(first["text"], first["content_text"])
        assert first["negative_text"].shape == (4, 77, 32)
        assert first["latent_shape"] == (4, 8, 8)

    def test_an_epoch_shows_each_picture_once(self, build):
        data = build(repeats=3)
        loader = data.train_dataloader()
        first = rows_of(loader)
        rows = [row for batch in first for row in batch]
        count = len(data.train) * 3
        assert len(rows) == len(set(rows)) == count // BATCH * BATCH
        assert rows_of(loader, epoch=1) != first
        assert rows_of(loader) == first

    def test_no_more_than_a_bound_of_what_was_read_stays_in_memory(self, build, data, monkeypatch):
        bound = round(data.dataset.entry_bytes(data.encoded) * 0.6)
        monkeypatch.setattr("datamodules.base.IN_MEMORY", bound)
        before = {id(one) for one in gc.get_objects()}
        data = build()
        for loader in (data.train_dataloader(), *data.val_dataloader()):
            for batch in loader:
                assert batch["text"].isfinite().all()
        del batch
        gc.collect()
        left = [one for one in gc.get_objects() if isinstance(one, torch.Tensor) and id(one) not in before]
        assert bound / 2 < sum(one.nbytes for one in left) < bound + 20_000, "and what a data module holds itself"

    def test_nothing_stays_in_memory_of_a_set_of_which_little_would_fit(self, build, monkeypatch):
        whole = build()
        size = whole.dataset.entry_bytes(whole.encoded)
        texts = len({picture.text for picture in (*whole.train, *whole.held_out)})
        assert size == 4 * (self.pictures * 2 * 4 * 8 * 8 + texts * 77 * 32), "float32 mean, deviation and text of each"
        for bound, kept in ((size // 2 + 1, True), (size // 2 - 1, False)):
            monkeypatch.setattr("datamodules.base.IN_MEMORY", bound)
            data = build()
            path = data.encoded.text_path("")
            first, again = data.encoded.text(""), data.encoded.text("")
            assert path.is_file() and (first is again) == kept

    def test_buckets(self, build, shapes, caplog):
        with caplog.at_level(logging.WARNING):
            data = build(root=shapes, resolution=128, buckets=True)
        counts = Counter(data.dataset.sizes["train"])
        assert len(counts) > 2 and min(counts.values()) >= BATCH
        assert "too few for a batch of 4 each" in caplog.text
        for loader, side in zip((data.train_dataloader(), data.val_dataloader()[0]), data.dataset.sizes, strict=True):
            seen, members = Counter(), getattr(data, side)
            for batch in loader:
                (width, height), *others = {data.dataset.sizes[side][row] for row in batch["row"]}
                assert not others, "a batch holds one size"
                assert batch["mean"].shape == batch["std"].shape == (len(batch["row"]), 4, height // 8, width // 8)
                assert batch["sha256"] == [members[row].sha256 for row in batch["row"]]
                seen.update(batch["row"])
            assert max(seen.values()) == 1
            if side == "held_out":
                assert set(seen) == set(range(len(members)))
            else:
                assert len(seen) == len(loader) * BATCH == sum(count // BATCH * BATCH for count in counts.values())
        assert next(iter(data.val_dataloader()[1]))["latent_shape"] == (4, 16, 16)

    def test_no_picture_is_left_out_for_ever(self, build, shapes):
        loader = (data := build(root=shapes, resolution=128, buckets=True)).train_dataloader()
        seen = {row for epoch in range(12) for batch in rows_of(loader, epoch) for row in batch}
        assert seen == set(range(len(data.train)))

    def test_without_upscaling_no_picture_is_enlarged(self, build, shapes):
        data = build(root=shapes, resolution=128, buckets=True, no_upscale=True)
        for side in data.dataset.sizes:
            for picture, size in zip(getattr(data, side), data.dataset.sizes[side], strict=True):
                assert picture.size[0] >= size[0] and picture.size[1] >= size[1]
                assert picture.size != (100, 110) or size == (64, 64)
        assert (64, 64) in data.dataset.sizes["train"] and (64, 64) in data.dataset.sizes["held_out"]
        assert {mean.shape for batch in data.train_dataloader() for mean in batch["mean"]} > {(4, 8, 8), (4, 16, 16)}

    def test_pictures_are_flipped_half_of_the_time(self, build, shapes):
        data, plain = build(root=shapes, flip=True, repeats=4), build(root=shapes, repeats=4)
        loader, flips = data.train_dataloader(), []
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            flips.append({})
            for batch in loader:
                for row, mean in zip(batch["row"], batch["mean"], strict=True):
                    views = [View((64, 64), data.dataset.framing.interpolation, flip=flip) for flip in (False, True)]
                    picture = data.train[row % len(data.train)]
                    found = [torch.equal(mean, data.encoded.latent(picture, view)["mean"]) for view in views]
                    assert found.count(True) == 1
                    flips[-1][row] = found[1]
            assert 0.3 < sum(flips[-1].values()) / len(flips[-1]) < 0.7
        assert flips[0] != flips[1]
        for batch, other in zip(data.val_dataloader()[0], plain.val_dataloader()[0], strict=True):
            assert torch.equal(batch["mean"], other["mean"])

    @pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
    def test_only_the_training_set_is_degraded(self, build, shapes, interpolation):
        data, plain = build(root=shapes, source_size=8, upscale_interpolation=interpolation), build(root=shapes)
        batch, other = (next(iter(one.train_dataloader())) for one in (data, plain))
        for row, mean, undegraded in zip(batch["row"], batch["mean"], other["mean"], strict=True):
            view = View((64, 64), interpolation, source_size=8)
            assert torch.equal(mean, data.encoded.latent(data.train[row], view)["mean"])
            assert not torch.equal(mean, undegraded)
        for batch, other in zip(data.val_dataloader()[0], plain.val_dataloader()[0], strict=True):
            assert torch.equal(batch["mean"], other["mean"])

    @pytest.mark.parametrize("buckets", [False, True])
    def test_two_processes_see_together_what_one_sees(self, build, shapes, buckets):
        options = {"root": shapes, "resolution": 128, "buckets": True, "flip": True} if buckets else {}
        one = build(batch_size=4, **options)
        two = [build(world_size=2, rank=rank, batch_size=2, **options) for rank in range(2)]
        alone = list(one.train_dataloader())
        shares = [list(data.train_dataloader()) for data in two]
        assert [len(share) for share in shares] == [len(alone)] * 2
        for step, together in enumerate(alone):
            parts = [share[step] for share in shares]
            rows = [row for part in parts for row in part["row"]]
            assert sorted(rows) == sorted(together["row"])
            order = [rows.index(row) for row in together["row"]]
            for name in ("mean", "std", "text"):
                assert torch.equal(torch.cat([part[name] for part in parts])[order], together[name])
        for loader in range(2):
            key = ("row", "index")[loader]
            rows = [i for data in two for batch in data.val_dataloader()[loader] for i in batch[key]]
            assert sorted(rows) == list(range(len(one.held_out) if loader == 0 else len(one.prompts)))

    def test_the_hash_is_that_of_pictures_and_captions(self, build, data):
        assert build(batch_size=1).dataset_hash == data.dataset_hash
        assert len(data.dataset_hash) == 64
