"""CLIP skip: what the text embeddings are, where they are cached, and what is said of an adapter trained with it."""

import copy
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from callbacks import SaveAdapter
from datamodules import StyleDataModule
from lightning_modules import ComposedStyles, StyleLoRA
from stylelora.base.clip_skip import clip_skip_of
from stylelora.base.conditioning import encode_texts
from stylelora.base.load import load_text_encoder, load_tokenizer, part_hash
from stylelora.data.cache import Cache
from stylelora.evaluation.interference import Probe
from stylelora.records import InputError

TEXTS = ["a red fox", "", "a small house " * 40]


def without_last(encoder, count):
    """The encoder as if its last layers had never been there."""
    shorter = copy.deepcopy(encoder)
    shorter.encoder.layers = shorter.encoder.layers[: len(encoder.encoder.layers) - count]
    return shorter


def test_it_takes_an_earlier_layer_and_the_final_norm(tiny_sd):
    tokenizer, encoder = load_tokenizer(tiny_sd), load_text_encoder(tiny_sd)
    last, before = (encode_texts(tokenizer, encoder, TEXTS, clip_skip).text for clip_skip in (1, 2))
    assert torch.equal(last, encode_texts(tokenizer, encoder, TEXTS).text)
    assert torch.equal(before, encode_texts(tokenizer, without_last(encoder, 1), TEXTS).text)
    assert not torch.allclose(last, before, atol=0.01)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():  # kohya's own rule
        states = encoder(tokens, output_hidden_states=True).hidden_states
        assert len(states) == 3
        for clip_skip, expected in ((1, last), (2, before)):
            torch.testing.assert_close(encoder.final_layer_norm(states[-clip_skip]), expected, rtol=0, atol=1e-6)


def test_the_cache_keeps_them_apart(tiny_sd, tmp_path):
    plain, skipping = Cache(tmp_path, tiny_sd, "cpu"), Cache(tmp_path, tiny_sd, "cpu", 2)
    key = [1, "texts", "a fox", part_hash(tiny_sd, "text_encoder"), part_hash(tiny_sd, "tokenizer")]
    names = [hashlib.sha256(json.dumps([*key, *more]).encode()).hexdigest() for more in ([], [2])]
    assert [one.text_path("a fox").stem for one in (plain, skipping)] == names  # the first is the name it always had
    tokenizer, encoder = load_tokenizer(tiny_sd), load_text_encoder(tiny_sd)
    for _ in range(2):
        for one, clip_skip in ((plain, 1), (skipping, 2)):
            expected = encode_texts(tokenizer, encoder, ["a fox"], clip_skip).text[0]
            assert torch.equal(one.text("a fox"), expected)


@pytest.mark.parametrize("clip_skip", [0, 3, -1])
def test_there_must_be_such_a_layer(clip_skip, tiny_sd, adapter_files):
    base = str(tiny_sd)
    for make in (
        lambda: StyleLoRA(base=base, clip_skip=clip_skip),
        lambda: ComposedStyles([], [], base, clip_skip=clip_skip),
        lambda: Probe(base, [], clip_skip),
    ):
        with pytest.raises(InputError, match=rf"clip_skip is {clip_skip}, but .* has 2 layers; give 1 .* to 2"):
            make()


@torch.no_grad()
def test_the_captions_of_training_have_it(tiny_sd, pictures, tmp_path):
    data = StyleDataModule(str(pictures), resolution=64, batch_size=2, trigger="zqx", cache=str(tmp_path))
    data.trainer = SimpleNamespace(
        lightning_module=StyleLoRA(str(tiny_sd), rank=1, clip_skip=2), world_size=1, global_rank=0,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    encoder = without_last(load_text_encoder(tiny_sd), 1)
    for name, texts in {"text": batch["caption"], "empty_text": [""]}.items():
        expected = encode_texts(load_tokenizer(tiny_sd), encoder, texts).text
        torch.testing.assert_close(batch[name], expected, rtol=0, atol=1e-5)


def notes_of(trainer):
    files = Path(trainer.default_root_dir).glob("*.safetensors")
    (file,) = (path for path in files if not path.stem.endswith("-last"))
    with safe_open(file, "pt") as opened:
        return str(file), opened.metadata()


@pytest.mark.slow
def test_training_uses_it_and_the_file_says_so(train, tiny_sd, caplog):
    trainer, _ = train(SaveAdapter(), epochs=1, clip_skip=2)
    batch = next(iter(trainer.train_dataloader))
    expected = encode_texts(load_tokenizer(tiny_sd), without_last(load_text_encoder(tiny_sd), 1), [""]).text
    assert torch.equal(batch["empty_text"], expected)
    file, notes = notes_of(trainer)
    assert notes["ss_clip_skip"] == "2"
    usual, notes = notes_of(train(SaveAdapter(), epochs=1)[0])
    assert notes["ss_clip_skip"] == "1"

    caplog.clear()
    ComposedStyles([file], [1], str(tiny_sd), clip_skip=2)
    ComposedStyles([usual], [1], str(tiny_sd))
    assert "clip_skip" not in caplog.text
    ComposedStyles([file], [1], str(tiny_sd))
    assert "give --model.clip_skip 2" in caplog.text
    ComposedStyles([usual], [1], str(tiny_sd), clip_skip=2)
    assert "give --model.clip_skip 1" in caplog.text


def test_sampling_uses_it(tiny_sd):
    module = ComposedStyles([], [], str(tiny_sd), clip_skip=2)
    expected = encode_texts(module.painter.tokenizer, without_last(module.painter.text_encoder, 1), TEXTS).text
    assert torch.equal(module.painter.embed(TEXTS, {}).text, expected)


@pytest.mark.parametrize(
    ("notes", "clip_skip"),
    [
        ({}, None),
        ({"ss_clip_skip": "None"}, 1),
        ({"ss_clip_skip": "2"}, 2),
        ({"ss_clip_skip": "two"}, None),
    ],
)
def test_what_files_say_of_it(notes, clip_skip):
    assert clip_skip_of(notes) == clip_skip


def test_kohyas_note_is_heeded(adapter_files, tiny_sd, tmp_path, caplog):
    file = tmp_path / "anime.safetensors"
    with safe_open(adapter_files[0], "pt") as opened:
        notes = opened.metadata()
    save_file(load_file(adapter_files[0]), file, metadata=notes | {"ss_clip_skip": "2"})
    ComposedStyles([str(file)], [1], str(tiny_sd))
    assert "clip_skip is 1, but in training it was 2 for anime" in caplog.text
