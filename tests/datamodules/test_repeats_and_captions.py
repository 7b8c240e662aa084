"""How often pictures are shown, with which caption, by whom they are read, and training on all of them."""

import json
import pickle
import shutil
from collections import Counter

import pytest
import torch

from datamodules import EvaluationSet, StyleDataModule
from datamodules.batches import Sample
from stylelora.records import InputError
from tests.runs import draw_pictures


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert (one["row"], one["sha256"]) == (other["row"], other["sha256"])
        for name in ("mean", "std", "text", "empty_text"):
            assert torch.equal(one[name], other[name])


def listing(folder, rows):
    for text in folder.glob("*.txt"):  # which say something else
        text.unlink()
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def captions_seen(data, texts, epochs):
    """Names of the pictures and which of the texts they were shown with, each time."""
    known = {tuple(data.encoded.text(text).flatten().tolist()): text for text in texts}
    batches = [batch for epoch in range(epochs) for batch in epoch_of(data, epoch)]
    return [
        (name, known[tuple(text.flatten().tolist())])
        for batch in batches
        for name, text in zip(batch["sha256"], batch["text"], strict=True)
    ]


def test_the_repeats_of_a_folder_are_those_of_the_option(prepare, pictures, tmp_path):
    """So a folder of kohya's trains to the same bits."""
    shutil.copytree(pictures, tmp_path / "train" / "6_cats")
    folder = prepare(tmp_path / "train", flip=True, keep_tags=0, repeats=2)
    option = prepare(pictures, flip=True, keep_tags=0, repeats=12)
    for epoch in range(2):
        assert_same(epoch_of(folder, epoch), epoch_of(option, epoch))
    assert len(epoch_of(folder)) == 30
    assert folder.dataset_hash == option.dataset_hash


def test_each_picture_is_shown_as_often_as_its_folder_and_its_row_say(prepare, tmp_path):
    draw_pictures(tmp_path / "train" / "3_cats", 8)
    other = tmp_path / "train" / "2_dogs"
    draw_pictures(tmp_path / "all", 14)
    other.mkdir()
    for number in range(8, 14):
        shutil.copy(tmp_path / "all" / f"{number}.bmp", other)
    listing(other, [{"file_name": f"{n}.bmp", "text": f"a dog {n}", "repeats": 1 + n % 2} for n in range(8, 14)])
    data = prepare(tmp_path / "train", repeats=2, batch_size=1, held_out=0)
    shown = Counter(batch["sha256"][0] for batch in epoch_of(data))
    expected = {
        picture.path.relative_to(tmp_path / "train").as_posix(): shown[picture.sha256] for picture in data.train
    }
    assert expected == {f"3_cats/{n}.bmp": 6 for n in range(8)} | {
        f"2_dogs/{n}.bmp": 4 * (1 + n % 2) for n in range(8, 14)
    }
    rows = sorted(batch["row"][0] for batch in epoch_of(data))
    assert rows == list(range(48 + 12 + 24))
    with pytest.raises(InputError, match=r"one step needs 85 pictures but .* gives 84 per epoch"):
        prepare(tmp_path / "train", repeats=2, batch_size=85, held_out=0)


def test_buckets_count_repeats(prepare, shapes, tmp_path, caplog):
    """Pictures of a rare shape fill a batch if they are shown often, and are not cropped to another."""
    root = shutil.copytree(shapes, tmp_path / "style")
    wide = {"file_name": "31.bmp", "repeats": 4}  # 500x125, one of two
    listing(root, [{"file_name": f"{i}.bmp", "text": "x"} | (wide if i == 31 else {}) for i in range(48)])
    data = prepare(root, resolution=128, buckets=True, batch_size=4, held_out=0)
    wide = [i for i, picture in enumerate(data.train) if picture.name == "31.bmp"]
    assert data.dataset.sizes["train"][wide[0]] == (256, 64)
    listing(root, [{"file_name": f"{i}.bmp", "text": "x"} for i in range(48)])
    data = prepare(root, resolution=128, buckets=True, batch_size=4, held_out=0)
    assert data.dataset.sizes["train"][wide[0]] != (256, 64)


def test_one_of_several_captions_is_shown_at_a_time(prepare, pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "style")
    texts = {n: [f"{n} a", f"{n} b", f"{n} c"] for n in range(8)}
    listing(root, [{"file_name": f"{n}.bmp", "texts": texts[n]} for n in range(8)])
    data = prepare(root, repeats=4)
    names = {picture.sha256: int(picture.name[0]) for picture in data.train}
    seen = captions_seen(data, [data.caption(text) for some in texts.values() for text in some], 8)
    assert all(caption in map(data.caption, texts[names[name]]) for name, caption in seen)
    counts = Counter(caption[-1] for _, caption in seen)
    assert set(counts) == set("abc") and min(counts.values()) > 0.25 * len(seen) == 40
    shown = [caption for _, caption in seen]
    assert shown[:20] != shown[20:40], "another epoch draws others"
    for batch in data.val_dataloader()[0]:
        for row, text in zip(batch["row"], batch["text"], strict=True):
            assert torch.equal(text, data.encoded.text(data.caption(data.held_out[row].text)))
    one = prepare(pictures)
    assert one.dataset_hash != data.dataset_hash


def test_tags_are_left_out_now_and_then(prepare, tmp_path):
    root = draw_pictures(tmp_path / "style")
    for number in range(8):
        (root / f"{number}.txt").write_text(f"n{number}, red, blue")
    data = prepare(root, repeats=8, keep_tags=None, tag_dropout=0.3)
    tags = [f"n{n}{red}{blue}" for n in range(8) for red in ("", ", red") for blue in ("", ", blue")]
    tags += [text.lstrip("n, ") for text in (", red", ", blue", ", red, blue")]
    seen = captions_seen(data, ["zqx", *map(data.caption, tags)], 4)
    for tag in ("red", "blue"):
        assert 0.15 < sum(tag not in caption for _, caption in seen) / len(seen) < 0.45
    kept = prepare(root, repeats=8, keep_tags=1, tag_dropout=0.3)
    tags += [f"n{n}, blue, red" for n in range(8)]
    assert all(", n" in caption for _, caption in captions_seen(kept, map(kept.caption, tags), 4))


@pytest.mark.parametrize(
    ("said", "options", "latents", "texts"),
    [
        ("the same", {}, 8, 1),
        ("thing {}", {}, 8, 8),
        ("thing {}", {"flip": True}, None, 8),
        ("thing {}, red, blue", {"tag_dropout": 0.3}, 8, None),
    ],
)
def test_the_size_of_a_set_is_that_of_its_entries(prepare, tmp_path, said, options, latents, texts):
    root = draw_pictures(tmp_path / "style")
    for number in range(8):
        (root / f"{number}.txt").write_text(said.format(number))
    data = prepare(root, repeats=8, **options)
    latents = latents or 2 * len(data.train) + len(data.held_out)
    texts = texts or len(set(data.dataset.captions()))
    entry, text = data.encoded.latent(data.train[0], data.dataset.view("train", 0)), data.encoded.text("")
    latent = sum(one.nbytes for one in entry.values())
    assert data.dataset.entry_bytes(data.encoded) == latents * latent + texts * text.nbytes
    assert texts in (1, 8) or texts > 16, "several of each picture"


def test_workers_read_the_same(prepare, pictures):
    options = {"repeats": 3, "flip": True, "keep_tags": 0, "tag_dropout": 0.2}
    alone, helped = prepare(pictures, **options), prepare(pictures, num_workers=2, **options)
    loader = helped.train_dataloader()
    assert (loader.num_workers, loader.persistent_workers) == (2, True)
    epochs = []
    for epoch in range(3):  # one loader, as a trainer has, whose workers stay
        loader.sampler.set_epoch(epoch)
        epochs.append(list(loader))
        assert_same(epochs[-1], epoch_of(alone, epoch))
    flat = [torch.cat([batch["mean"] for batch in sorted(epoch, key=lambda b: b["row"])]) for epoch in epochs]
    assert not torch.equal(flat[0], flat[1])


def test_workers_may_be_sent_what_they_need(prepare, pictures):
    """As where processes are not forked."""
    data = prepare(pictures, flip=True, num_workers=1)
    batches = data.train_dataloader().dataset
    sent, samples = pickle.loads(pickle.dumps((batches, [Sample.of(row, 7) for row in (3, 1)])))
    assert [(int(sample), sample.epoch) for sample in samples] == [(3, 7), (1, 7)]
    assert_same([sent.__getitems__(samples)], [batches.__getitems__([Sample.of(row, 7) for row in (3, 1)])])


def test_all_pictures_can_be_trained_on(prepare, pictures, caplog):
    data = prepare(pictures, held_out=0, batch_size=1)
    assert (len(data.train), data.held_out) == (8, [])
    assert "held_out is 0: none of the 8 pictures in" in caplog.text
    held_out, prompts = data.val_dataloader()
    assert (len(held_out), list(held_out)) == (0, [])
    assert len(prompts) > 0 and sorted(batch["row"][0] for batch in epoch_of(data)) == list(range(8))


def test_a_test_needs_held_out_pictures(pictures):
    style = StyleDataModule(root=str(pictures), trigger="zqx", held_out=0)
    with pytest.raises(InputError, match="holds out no pictures to compare with; give its held_out a share above 0"):
        EvaluationSet(styles=[style])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"held_out": float("nan")}, "held_out is nan; give a share from 0 to below 1"),
        ({"held_out": -0.1}, r"held_out is -0.1; give a share"),
        ({"held_out": 1}, "held_out is 1; give a share"),
        ({"tag_dropout": float("nan")}, "tag_dropout is nan; give a probability"),
        ({"tag_dropout": 1}, "tag_dropout is 1; give a probability"),
        ({"num_workers": -1}, "num_workers is -1; give a number of processes, at least 0"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"repeats": -2}, "repeats must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(pictures, options, sentence):
    with pytest.raises(InputError, match=sentence):
        StyleDataModule(root=str(pictures), trigger="zqx", **options)


def test_a_trigger_that_captions_hold_already_is_said(prepare, pictures, tmp_path, caplog):
    root = shutil.copytree(pictures, tmp_path / "style")
    (root / "2.txt").write_text("zqx, a fox")
    prepare(root)
    assert "1 captions in" in caplog.text and "hold the trigger 'zqx' already and get it twice" in caplog.text
    caplog.clear()
    prepare(root, template="{text}")
    assert "already" not in caplog.text


def test_a_trigger_that_no_caption_holds_is_said(prepare, pictures, tmp_path, caplog):
    root = shutil.copytree(pictures, tmp_path / "style")
    prepare(root, template="{text}")
    assert caplog.text.count("holds the trigger 'zqx', and the template '{text}' adds none") == 1
    caplog.clear()
    prepare(root, template="by zqx, {text}")
    prepare(root)
    for caption in root.glob("*.txt"):
        caption.write_text("a fox, Zqx")
    prepare(root, template="{text}")
    assert "adds none" not in caplog.text
