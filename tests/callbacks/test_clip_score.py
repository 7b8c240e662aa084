import json
import math
import warnings
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader

from callbacks.clip_score import CLIPScore
from stylelora.data.images import to_tensor
from stylelora.distributed import gather_objects
from stylelora.metrics.clip_score import CLIP_SCORE
from stylelora.metrics.statistics import mean_interval
from stylelora.records import SampleBatch

CONTENTS = ["a cat", "a cat", "a boat", "a boat", "a tree", "a tree"]


class FakeEncoder:
    """Brightness against length: the score is 1 where a picture is as bright as its text is long."""

    name = "fake"

    def __init__(self):
        self.texts = []

    def encode_images(self, images):
        if isinstance(images, list):  # real pictures, of any sizes
            images = torch.stack([to_tensor(image) for image in images])
        assert images.dtype == torch.uint8
        return self.on_circle(images.float().mean((1, 2, 3)))

    def encode_texts(self, texts):
        self.texts += texts
        return self.on_circle(torch.tensor([float(len(text)) for text in texts]))

    @staticmethod
    def on_circle(angle):
        return torch.stack([angle.cos(), angle.sin()], 1)


class Samples(L.LightningModule):
    """Trains one layer; validation gives samples, brighter by one with every epoch, then a batch of another kind."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch + torch.rand_like(batch)).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if dataloader_idx == 1:
            return None
        index = batch.tolist()
        contents = [CONTENTS[i] for i in index]
        images = torch.stack([torch.full((3, 4, 4), i + 5, dtype=torch.uint8) for i in index])
        return SampleBatch(
            index=index,
            places=index,
            prompts=[f"zqx style of {text}" for text in contents],
            contents=contents,
            seeds=[i % 2 for i in index],
            images=images + self.current_epoch,
            base_images=images,
        )

    def train_dataloader(self):
        return DataLoader(torch.ones(2, 1))

    def val_dataloader(self):
        return [DataLoader(torch.arange(6), batch_size=4), DataLoader(torch.ones(2))]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_in(folder, *callbacks, epochs=2, **options):
    return L.Trainer(
        default_root_dir=folder, callbacks=list(callbacks), max_epochs=epochs, accelerator="cpu", logger=False,
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **options},
    )  # fmt: skip


def with_fake(**options):
    callback = CLIPScore(**options)
    callback.load_encoder = lambda trainer: FakeEncoder()
    return callback


def expected(epoch):
    return [torch.cos(torch.tensor(i + 5.0 + epoch - len(text))).item() for i, text in enumerate(CONTENTS)]


def lines(folder):
    return [json.loads(line) for line in (folder / "clip_score.jsonl").read_text().splitlines()]


def test_scores_each_picture_and_its_base(tmp_path):
    callback, module = with_fake(), Samples()
    trainer = trainer_in(tmp_path / "new" / "run", callback)
    trainer.fit(module)

    rows = lines(tmp_path / "new" / "run")
    assert [(row["epoch"], row["index"]) for row in rows] == [(e, i) for e in (0, 1) for i in range(6)]
    assert set(rows[0]) == {"epoch", "step", "index", "prompt", "seed", "encoder", "score", "base_score"}
    assert rows[9] == {
        "epoch": 1, "step": trainer.global_step, "index": 3, "prompt": "a boat", "seed": 1, "encoder": "fake",
        "score": pytest.approx(expected(1)[3], abs=1e-6), "base_score": pytest.approx(expected(0)[3], abs=1e-6),
    }  # fmt: skip

    own, base = callback.metrics
    assert (str(own), str(base)) == ("clip_score[fake]", "base: clip_score[fake]")
    for metric, key in ((own, "score"), (base, "base_score")):
        want = mean_interval([row[key] for row in rows[6:]], groups=CONTENTS)
        assert metric == CLIP_SCORE.of(want, metric.condition, "fake")
    assert own.n == 3  # prompts, not pictures
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged == {
        "val/clip_score": pytest.approx(sum(expected(1)) / 6, abs=1e-6),
        "val/clip_score_base": pytest.approx(sum(expected(0)) / 6, abs=1e-6),
    }
    assert set(callback.encoder.texts) == set(CONTENTS)  # no trigger words
    assert dict(module.named_children()).keys() == {"layer"}


def test_the_encoder_is_loaded_once_and_before_training(tmp_path):
    callback = CLIPScore(scorer="no-such-owner/no-such-scorer")
    events = []

    def load(trainer):
        events.append("load")
        return FakeEncoder()

    class Watch(L.Callback):
        def on_fit_start(self, trainer, pl_module):
            events.append("fit")

    callback.load_encoder = load
    trainer_in(tmp_path, callback, Watch()).fit(Samples())
    assert events == ["load", "fit"]


def test_without_a_scorer_nothing_is_scored(tmp_path):
    callback = CLIPScore(scorer=None)
    trainer_in(tmp_path, callback, epochs=1).fit(Samples())
    assert callback.metrics == []


def test_a_new_run_starts_the_file_afresh_and_a_resumed_one_goes_on(tmp_path):
    (tmp_path / "clip_score.jsonl").write_text("of a run before\n")
    first = trainer_in(tmp_path, with_fake(), epochs=1)
    first.fit(Samples())
    first.save_checkpoint(tmp_path / "last.ckpt")
    assert [row["epoch"] for row in lines(tmp_path)] == [0] * 6
    trainer_in(tmp_path, with_fake(), epochs=2).fit(Samples(), ckpt_path=tmp_path / "last.ckpt")
    assert [row["epoch"] for row in lines(tmp_path)] == [0] * 6 + [1] * 6
    trainer_in(tmp_path, with_fake(), epochs=3).fit(Samples(), ckpt_path=tmp_path / "last.ckpt")  # from the first again
    assert [row["epoch"] for row in lines(tmp_path)] == [0] * 6 + [1] * 6 + [2] * 6


def test_validate_scores_and_leaves_the_file_of_the_run(tmp_path):
    (tmp_path / "clip_score.jsonl").write_text("of the run\n")
    callback = with_fake()
    (logged, *_) = trainer_in(tmp_path, callback).validate(Samples(), verbose=False)
    assert logged["val/clip_score"] == pytest.approx(callback.metrics[0].value, abs=1e-6)
    assert (tmp_path / "clip_score.jsonl").read_text() == "of the run\n"


def test_a_run_without_samples_logs_nothing(tmp_path):
    class Plain(Samples):
        def val_dataloader(self):
            return [DataLoader(torch.ones(2))]

        def validation_step(self, batch, batch_idx):
            return None

    callback = with_fake()
    trainer = trainer_in(tmp_path, callback, epochs=1)
    trainer.fit(Plain())
    assert callback.metrics == []
    assert dict(trainer.callback_metrics) == {}
    assert lines(tmp_path) == []


def test_rows_of_all_processes_count_once(tmp_path, monkeypatch):
    """Two processes that shared the six pictures, and gave the first ones to both."""
    monkeypatch.setattr("stylelora.distributed.gather_objects", lambda rows: [rows[3:], rows[:4]])
    callback = with_fake()
    trainer_in(tmp_path, callback, epochs=1, num_sanity_val_steps=0).fit(Samples())
    assert [row["index"] for row in lines(tmp_path)] == list(range(6))
    assert callback.metrics[0].value == pytest.approx(sum(expected(0)) / 6, abs=1e-6)


def test_training_is_bit_equal_with_and_without(tmp_path):
    ends = []
    for callbacks in ([], [with_fake()]):
        L.seed_everything(3, verbose=False)
        module = Samples()
        trainer_in(tmp_path, *callbacks).fit(module)
        ends.append((module.layer.weight.detach().clone(), torch.get_rng_state()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])


def test_gather_objects_is_a_list_of_one_alone_and_goes_through_a_process_group(tmp_path):
    assert gather_objects([1]) == [[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        sent = {"index": 1}
        (got,) = gather_objects(sent)
        assert got == sent
        assert got is not sent  # it travelled
    finally:
        torch.distributed.destroy_process_group()


def test_real_pictures_are_scored_with_their_captions_once(tmp_path):
    class Data(L.LightningDataModule):
        """Two held-out pictures, as bright as 3 and as 6, with captions of 3 and of 5 letters."""

        def __init__(self):
            super().__init__()
            pictures = [SimpleNamespace(text="abc"), SimpleNamespace(text="abcde")]
            self.read, self.dataset = [], SimpleNamespace(held_out=pictures, image=self.image)

        def image(self, side, index):
            self.read.append((side, index))
            return torch.full((3, 4, 4), 3 * index + 3, dtype=torch.uint8)

        def train_dataloader(self):
            return Samples().train_dataloader()

        def val_dataloader(self):
            return Samples().val_dataloader()

    data, trainer = Data(), trainer_in(tmp_path, with_fake())
    trainer.fit(Samples(), data)
    expected = (1 + math.cos(1)) / 2
    assert trainer.callback_metrics["val/clip_score_real"] == pytest.approx(expected, abs=1e-6)
    assert data.read == [("held_out", 0), ("held_out", 1)]
