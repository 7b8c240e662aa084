"""The text encoder's LoRA: what is trained with it, measured, saved, and what is left alone without it."""

import copy
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from callbacks import SaveAdapter
from lightning_modules import StyleLoRA
from stylelora.base.conditioning import encode_texts
from stylelora.base.load import load_text_encoder, load_tokenizer
from stylelora.lora.blend import added
from stylelora.lora.inject import adapter_disabled
from stylelora.lora.names import parts
from stylelora.lora.read import read_adapter
from stylelora.lora.text_encoder import TextEncoderLoRA
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from tests.runs import Keep, same, tensors
from tests.tiny_sd import disturb

CAPTIONS = ["zqx, a red fox", "zqx, a small blue house"]


def built(tiny_sd, monkeypatch, rank=2, **options):
    module = StyleLoRA(base=str(tiny_sd), rank=4, text_encoder=TextEncoderLoRA(rank=rank), **options)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    if rank:
        disturb(module.text_encoder)
    return module


def batch_of(**more):
    draw = torch.Generator().manual_seed(5)
    mean = torch.randn(2, 4, 8, 8, generator=draw)
    return {"row": [0, 1], "mean": mean, "std": mean.abs(), "caption": CAPTIONS, **more}


def merged(tiny_sd, module):
    """The text encoder with the LoRA in its weights."""
    encoder = copy.deepcopy(load_text_encoder(tiny_sd))
    text = parts(module.adapter_layers())[1]
    for name, layer in text.items():
        weight = encoder.get_submodule(name.removeprefix("text_encoder.text_model.")).weight
        weight.data += layer.alpha / layer.rank * (layer.up @ layer.down)
    return encoder


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_the_loss_is_that_of_its_embeddings_and_trains_all_of_it(tiny_sd, monkeypatch, clip_skip):
    module = built(tiny_sd, monkeypatch, clip_skip=clip_skip, caption_dropout=0.5)
    encoder, tokenizer = merged(tiny_sd, module), load_tokenizer(tiny_sd)
    text = {"text": CAPTIONS, "empty_text": [""]}
    text = {name: encode_texts(tokenizer, encoder, some, clip_skip).text for name, some in text.items()}
    frozen = built(tiny_sd, monkeypatch, rank=0, clip_skip=clip_skip, caption_dropout=0.5)
    for epoch in range(4):  # drops none, one or both captions
        for one in (module, frozen):
            monkeypatch.setattr(type(one), "current_epoch", epoch)
            disturb(one.unet)
        loss = module.training_step(batch_of(), 0)
        assert loss.item() == pytest.approx(frozen.training_step(batch_of(**text), 0).item(), rel=1e-5)
        module.zero_grad(set_to_none=True)
        loss.backward()
        trained = [(name, one) for name, one in module.text_encoder.named_parameters() if one.requires_grad]
        assert len(trained) == 2 * 4 * (3 - clip_skip)  # nothing would train the layer that is left out
        assert all(one.grad is not None and one.grad.any() for _, one in trained)
    plain = encode_texts(tokenizer, load_text_encoder(tiny_sd), CAPTIONS, clip_skip).text
    assert not torch.allclose(text["text"], plain, atol=1e-2)  # else all that would hold without the LoRA, too


def test_without_it_there_is_no_text_encoder(tiny_sd, monkeypatch):
    module = built(tiny_sd, monkeypatch, rank=0)
    assert module.text_encoder is None
    assert all(name.startswith("unet.") for name in module.state_dict())


def test_disabled_it_is_the_base(tiny_sd, monkeypatch):
    module = built(tiny_sd, monkeypatch)
    expected = encode_texts(load_tokenizer(tiny_sd), load_text_encoder(tiny_sd), CAPTIONS).text
    assert not torch.allclose(module.text_encoder(CAPTIONS).text, expected, atol=1e-2)
    with adapter_disabled(module), torch.no_grad():
        assert torch.equal(module.text_encoder(CAPTIONS).text, expected)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank": -1}, "text_encoder.rank is -1; give at least 1, or 0 to train the UNet alone"),
        ({"rank": 2, "alpha": 0.0}, "text_encoder.alpha is 0.0; it must be a number above 0, or null"),
        ({"rank": 2, "learning_rate": float("nan")}, "text_encoder.learning_rate is nan"),
        ({"learning_rate": 1e-4}, "text_encoder.learning_rate is 0.0001, but its rank is 0: it is not trained"),
        ({"rank": 2, "target_modules": ["to_q"]}, "no layer of this text encoder matches to_q; available: fc1, fc2"),
        ({"rank": 2, "target_modules": []}, "no LoRA targets were given"),
    ],
)
def test_bad_options_are_refused(tiny_sd, options, sentence):
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        StyleLoRA(base=str(tiny_sd), text_encoder=TextEncoderLoRA(**options))


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    """A run with the text encoder, and what it logged before and after."""
    keep, cache = Keep(), tmp_path_factory.mktemp("cache")
    text = TextEncoderLoRA(rank=2, alpha=4.0, learning_rate=3e-2)
    trainer, module = train(
        keep, SaveAdapter(), epochs=1, validate_first=True, text_encoder=text, data={"cache": str(cache)}
    )
    return trainer, module, keep, cache


@pytest.mark.slow
def test_no_text_is_cached_and_skill_starts_at_zero(run):
    _, _, keep, cache = run
    assert [path.name for path in cache.iterdir()] == ["latents"]
    assert keep.logged[0]["val/skill"] == 0 != keep.logged[1]["val/skill"]
    assert keep.logged[0]["val/base_loss"] == keep.logged[1]["val/base_loss"]
    assert torch.equal(keep.samples[0].base_images, keep.samples[1].base_images)


@pytest.mark.slow
def test_the_file_has_it_for_every_program(run, tiny_sd):
    trainer, module, *_ = run
    file = adapter_file(Path(trainer.default_root_dir), "-last")
    with safe_open(file, "pt") as opened:
        notes, names = opened.metadata(), {key.split(".")[0] for key in opened.keys() if key.startswith("lora_te_")}
    assert (notes["ss_unet_lr"], notes["ss_text_encoder_lr"]) == ("0.001", "0.03")
    assert names == {
        f"lora_te_text_model_encoder_layers_{i}_self_attn_{to}_proj" for i in (0, 1) for to in ("q", "k", "v", "out")
    }
    with torch.no_grad():
        expected = module.eval().text_encoder(CAPTIONS).text
    tokenizer, encoder = load_tokenizer(tiny_sd), load_text_encoder(tiny_sd)
    plain = encode_texts(tokenizer, encoder, CAPTIONS).text
    assert not torch.allclose(plain, expected, atol=1e-2)
    with added(encoder, read_adapter(file).text):
        assert torch.allclose(encode_texts(tokenizer, encoder, CAPTIONS).text, expected, atol=1e-5)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.load_lora_weights(file)
    text, _ = pipeline.encode_prompt(CAPTIONS, "cpu", 1, do_classifier_free_guidance=False)
    assert torch.allclose(text, expected, atol=1e-5)


@pytest.mark.slow
def test_resuming_restores_it(train, tmp_path):
    options = {"text_encoder": TextEncoderLoRA(rank=2, learning_rate=3e-3), "lora_plus_ratio": 4.0}
    straight = train(**options)
    train(epochs=1, **options)[0].save_checkpoint(tmp_path / "last.ckpt")
    resumed = train(ckpt_path=tmp_path / "last.ckpt", **options)
    assert same(tensors(resumed[1]), tensors(straight[1]))
    assert any("text_encoder" in name for name in tensors(straight[1]))
    with pytest.raises(InputError, match=r"other layers \(\d+ differ"):
        train(ckpt_path=tmp_path / "last.ckpt")
