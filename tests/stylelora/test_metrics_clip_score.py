import json
import random
import warnings

import pytest
import torch
from PIL import Image

from stylelora.metrics.clip_score import clip_scores
from stylelora.metrics.encoders import ClipEncoder
from stylelora.records import InputError

PROMPTS = ["a cat", "a red sailing boat on a lake", "three lemons", "the old mill", "ein Fuchs, 狐"]
LONG = " ".join(["cat"] * 200)


@pytest.fixture(scope="session")
def folder(tiny_clip):
    return tiny_clip


@pytest.fixture(scope="session")
def encoder(folder):
    return ClipEncoder(str(folder))


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_equals_the_models_own_forward(folder, encoder, images):
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder)
    tokens = CLIPTokenizer.from_pretrained(folder)(PROMPTS, padding="max_length", max_length=77, return_tensors="pt")
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in images]
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        want = (model(pixel_values=pixels, **tokens).logits_per_image / model.logit_scale.exp()).diagonal()
    got = clip_scores(encoder, images, PROMPTS)
    assert got.shape == (5,)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    assert want.std() > 0.01  # else anything would pass
    assert want.min() < 0  # nothing is clamped


def test_a_score_depends_on_its_own_picture_and_text_only(monkeypatch, encoder, images):
    together = clip_scores(encoder, images, PROMPTS)
    alone = torch.cat([clip_scores(encoder, images[i : i + 1], PROMPTS[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    backwards = clip_scores(encoder, images.flip(0), PROMPTS[::-1]).flip(0)
    torch.testing.assert_close(together, backwards, atol=1e-6, rtol=0)
    monkeypatch.setattr("stylelora.metrics.encoders.CHUNK", 2)
    torch.testing.assert_close(together, clip_scores(encoder, images, PROMPTS), atol=1e-6, rtol=0)


def test_vectors_have_length_one_and_none_is_none(encoder, images):
    for rows in (encoder.encode_images(images), encoder.encode_texts(PROMPTS)):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
    assert encoder.encode_texts([]).shape == encoder.encode_images([]).shape == (0, 16)


def test_a_long_text_is_scored_as_its_beginning_and_says_so_once(folder, images):
    encoder = ClipEncoder(str(folder))
    with pytest.warns(UserWarning, match="reads 77 tokens") as caught:
        got = encoder.encode_texts(["a cat", LONG, LONG])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_texts([LONG])
        encoder.encode_texts([" ".join(["a"] * 75)])  # fits, with start and end
    ids = encoder.tokenizer(LONG).input_ids
    assert len(ids) > 77
    cut = torch.tensor([[*ids[:76], encoder.tokenizer.eos_token_id]])
    with torch.no_grad():
        want = encoder.model.get_text_features(input_ids=cut).pooler_output
    want = torch.nn.functional.normalize(want)[0]
    torch.testing.assert_close(got[1], want, atol=1e-6, rtol=0)
    torch.testing.assert_close(got[2], want, atol=1e-6, rtol=0)
    assert clip_scores(encoder, images[:1], [LONG]).isfinite().all()


def test_tensors_and_pil_images_agree(encoder, images):
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in images]
    assert torch.equal(encoder.encode_images(images), encoder.encode_images(pictures))
    narrow = images[:, :, :3, :3]  # a height of 3 must not be taken for channels
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in narrow]
    assert torch.equal(encoder.encode_images(narrow), encoder.encode_images(pictures))


def test_pictures_that_can_be_read_in_two_ways_are_refused(encoder, images):
    array = images[0].permute(1, 2, 0).numpy()
    for wrong in (images.float() / 255, images[0], images[:, :1], images.permute(0, 2, 3, 1), [array], list(images)):
        with pytest.raises(InputError, match="uint8"):
            encoder.encode_images(wrong)


def test_one_text_for_each_picture(encoder, images):
    for texts in (PROMPTS[:4], [*PROMPTS, "more"], [], "a cat"):
        with pytest.raises(InputError, match="one text for each picture"):
            clip_scores(encoder, images, texts)


def test_encoder_is_frozen_and_float32(folder, encoder, images, tmp_path):
    assert encoder.name == "tiny"
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not clip_scores(encoder, images, PROMPTS).requires_grad

    from transformers import CLIPModel

    half = tmp_path / "half"
    CLIPModel.from_pretrained(folder).half().save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (half / name).write_bytes((folder / name).read_bytes())
    assert all(parameter.dtype == torch.float32 for parameter in ClipEncoder(str(half)).model.parameters())


def test_surrounding_precision_leaves_no_trace(encoder, images):
    want = clip_scores(encoder, images, PROMPTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(clip_scores(encoder, images, PROMPTS), want)


def test_global_random_numbers_are_left_alone(folder, images):
    torch.manual_seed(7)
    random.seed(7)
    before = torch.get_rng_state(), random.getstate()
    clip_scores(ClipEncoder(str(folder)), images, PROMPTS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def copied(folder, to, without=()):
    to.mkdir()
    for file in folder.iterdir():
        if not file.name.startswith(tuple(without)):
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_scorer_that_is_not_whole_is_refused_and_randomness_kept(folder, tmp_path):
    """transformers loads the first two without an error: with two tokens, and with a random layer."""
    with pytest.raises(InputError, match="tokenizer"):
        ClipEncoder(str(copied(folder, tmp_path / "no_words", without=["tokenizer"])))

    deep = copied(folder, tmp_path / "deep")
    config = json.loads((deep / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] += 1
    (deep / "config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with pytest.raises(InputError, match="16 of its weights"):
        ClipEncoder(str(deep))
    assert torch.equal(torch.get_rng_state(), before)

    for lost in ("model", "preprocessor", "config"):
        with pytest.raises(InputError, match="cannot be loaded"):
            ClipEncoder(str(copied(folder, tmp_path / lost, without=[lost])))


def test_pickled_weights_are_refused(folder, tmp_path):
    from transformers import CLIPModel

    pickled = copied(folder, tmp_path / "pickled", without=["model"])
    torch.save(CLIPModel.from_pretrained(folder).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        ClipEncoder(str(pickled))


@pytest.mark.parametrize("missing", ["no-such-owner/no-such-model", "/no/such/folder", "not a name"])
def test_a_scorer_that_cannot_be_had_says_what_to_do(monkeypatch, missing):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="give 'mini', a folder") as caught:
        ClipEncoder(missing)
    assert missing in str(caught.value)
