"""What every style's data must hold; a style's test class names the style and inherits the rest."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stylelora.data.scan import scan_folder

BATCH = 4


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
                lightning_module=SimpleNamespace(base=str(tiny_sd)),
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
        assert {picture.path for picture in [*data.train, *data.held_out]} == {p.path for p in scan_folder(data.root)}
        assert 0.08 * self.pictures < len(data.held_out) < 0.35 * self.pictures

    def test_captions_name_the_content_and_the_trigger_the_style(self, data):
        for picture in [*data.train, *data.held_out]:
            assert picture.text.strip()
            assert data.trigger not in picture.text
            caption = data.caption(picture.text)
            assert caption.count(data.trigger) == 1
            assert picture.text in caption
        assert not any(data.trigger in content for content in data.contents)
        assert data.trigger.isalnum()

    def test_a_training_batch(self, data):
        batch = next(iter(data.train_dataloader()))
        assert set(batch) == {"mean", "std", "text", "empty_text", "row", "sha256"}
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

    def test_tensors_belong_to_their_picture(self, data):
        """A picture encoded alone is the one in the batch."""
        from stylelora.data.cache import encode_pictures, encode_texts

        base = data.trainer.lightning_module.base
        batch = next(iter(data.train_dataloader()))
        by_hash = {picture.sha256: picture for picture in data.train}
        picture = by_hash[batch["sha256"][1]]
        alone = encode_pictures([picture], Path(base), 64, data.kernel, data.cache, "cpu")
        torch.testing.assert_close(batch["mean"][1], alone["mean"][0], atol=1e-5, rtol=1e-5)
        text = encode_texts([data.caption(picture.text)], Path(base), data.cache, "cpu")
        torch.testing.assert_close(batch["text"][1], text[0], atol=1e-5, rtol=1e-5)

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
        assert first["empty_text"].shape == (1, 77, 32)
        assert first["latent_shape"] == (4, 8, 8)

    def test_an_epoch_shows_each_picture_once(self, build):
        data = build(repeats=3)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(0)
        rows = [row for batch in loader for row in batch["row"]]
        count = len(data.train) * 3
        assert len(rows) == len(set(rows)) == count // BATCH * BATCH
        loader.sampler.set_epoch(1)
        other = [row for batch in loader for row in batch["row"]]
        assert other != rows
        loader.sampler.set_epoch(0)
        assert [row for batch in loader for row in batch["row"]] == rows

    def test_two_processes_see_together_what_one_sees(self, build):
        one = build(batch_size=2 * BATCH)
        two = [build(world_size=2, rank=rank) for rank in range(2)]
        alone = [set(batch["row"]) for batch in one.train_dataloader()]
        shares = [[set(batch["row"]) for batch in data.train_dataloader()] for data in two]
        assert [len(share) for share in shares] == [len(alone)] * 2
        for step, together in enumerate(alone):
            assert shares[0][step] | shares[1][step] == together
            assert not shares[0][step] & shares[1][step]
        for loader in range(2):
            key = ("row", "index")[loader]
            rows = [i for data in two for batch in data.val_dataloader()[loader] for i in batch[key]]
            assert sorted(rows) == list(range(len(one.held_out) if loader == 0 else len(one.contents)))

    def test_the_fingerprint_is_that_of_pictures_and_captions(self, build, data):
        assert build(batch_size=1).fingerprint == data.fingerprint
        assert len(data.fingerprint) == 64
