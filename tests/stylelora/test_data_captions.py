"""Captions from files, names and networks."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from stylelora.data.captions import clean, collapse_repeats, sidecar, words_of
from stylelora.data.wording import shuffled_tags
from stylelora.records import InputError


@pytest.mark.parametrize("name", ["a.txt", "a.CAPTION", "a.png.txt", "a.PNG.caption"])
def test_a_file_beside_the_picture(tmp_path, name):
    picture = tmp_path / ("a.PNG" if "PNG" in name else "a.png")
    assert sidecar(picture) is None
    (tmp_path / name).write_bytes("\ufeffein Äpfel,\r\n rot\n".encode())
    assert sidecar(picture) == "ein Äpfel, rot"


def test_two_files_beside_a_picture_must_agree(tmp_path):
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "a.caption").write_text("a cat\n")
    assert sidecar(tmp_path / "a.png") == "a cat"
    (tmp_path / "a.caption").write_text("a dog")
    with pytest.raises(InputError, match=r"a.txt and a.caption differ"):
        sidecar(tmp_path / "a.png")


def test_what_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("Äpfel".encode("utf-16"))
    with pytest.raises(InputError, match="not UTF-8"):
        sidecar(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("polar_bear-02.png", "polar bear"),
        ("IMG_1234.JPG", ""),
        ("000.png", ""),
        ("DSCF0042 (1).jpg", ""),
        ("Löwe im Gras.webp", "Löwe im Gras"),
        ("version.png", "version"),
        ("image of a cat.png", "of a cat"),
    ],
)
def test_words_of_a_file_name(name, words):
    assert words_of(Path(name).stem) == words


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("wcstyle, a cat", "a cat"),
        ("a cat, WCSTYLE , on a mat", "a cat, on a mat"),
        ("a watercolor painting of a cat", "a cat"),
        ("a wcstyles cat", "a wcstyles cat"),
        ("a\tcat\n\x00on\u2028a mat ,", "a cat on a mat"),
        ("wcstyle", ""),
    ],
)
def test_the_content_of_a_caption(text, content):
    assert clean(text, ["a watercolor painting of"], "wcstyle") == content


@pytest.mark.parametrize(
    ("stuttered", "said"),
    [
        ("a bald bald bald man", "a bald man"),
        ("a cat on a mat on a mat on a mat", "a cat on a mat"),
        ("a cat and a cat", "a cat and a cat"),
        ("", ""),
    ],
)
def test_stutter_is_removed(stuttered, said):
    assert collapse_repeats(stuttered) == said


def test_tags_change_places_and_the_first_stay():
    text = "1girl, solo, red hair, smiling, park"
    orders = {shuffled_tags(text, 2, seed) for seed in range(200)}
    assert len(orders) == 6, "three tags have six orders"
    assert all(
        order.startswith("1girl, solo, ") and set(order.split(", ")) == set(text.split(", ")) for order in orders
    )
    assert shuffled_tags(text, 2, 7) == shuffled_tags(text, 2, 7)


@pytest.fixture(scope="module")
def tiny_blip(tmp_path_factory):
    """A random BLIP in the layout of Salesforce/blip-image-captioning-base."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )  # fmt: skip

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a the red blue cat dog house tree on in".split()]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(words), "encoder_hidden_size": 16, "bos_token_id": 2, "eos_token_id": 3,
            "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BlipForConditionalGeneration(
            BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16)
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(processor, BertTokenizerFast(tokenizer_object=tokenizer)).save_pretrained(folder)
    return folder


def test_blip_describes_as_transformers_does(tiny_blip):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    from stylelora.preprocess.blip import BlipCaptioner

    images = [Image.effect_noise((40, 30), 80 + 20 * i).convert("RGB") for i in range(3)]
    before = torch.get_rng_state()
    got = BlipCaptioner(str(tiny_blip), batch_size=2, beams=2, max_new_tokens=6)(images)
    assert torch.equal(torch.get_rng_state(), before)
    model, processor = BlipForConditionalGeneration.from_pretrained(tiny_blip), BlipProcessor.from_pretrained(tiny_blip)
    for image, caption in zip(images, got, strict=True):
        inputs = processor(images=image, return_tensors="pt")
        tokens = model.generate(pixel_values=inputs.pixel_values, num_beams=2, max_new_tokens=6, no_repeat_ngram_size=3)
        assert caption == collapse_repeats(processor.decode(tokens[0], skip_special_tokens=True).strip())
    assert all(got)


def test_a_blip_that_cannot_be_had(tmp_path):
    from stylelora.preprocess.blip import BlipCaptioner

    with pytest.raises(InputError, match="cannot be loaded"):
        BlipCaptioner(str(tmp_path))


class Encoder:
    """Pictures are vectors of their mean colour, texts of the colour they name."""

    name = "colours"

    def encode_images(self, images):
        rows = [torch.tensor(image.resize((1, 1)).getpixel((0, 0))).float() for image in images]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)

    def encode_texts(self, texts):
        colours = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
        return torch.tensor([colours[text.split()[-1]] for text in texts]).float()


def test_the_nearest_text_names_a_picture_if_it_is_clear():
    from stylelora.preprocess.retrieval import RetrievalCaptioner

    name = RetrievalCaptioner(Encoder(), ["all red", "all green", "all blue"], margin=0.1)
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue", "yellow")]
    assert name(images) == ["all red", "all green", "all blue", None]
    assert RetrievalCaptioner(Encoder(), ["all red", "all red ", "", "all blue"], 0.1)(images[:1]) == ["all red"]
    for vocabulary in (["all red"], ["", " "], []):
        with pytest.raises(InputError, match="at least two"):
            RetrievalCaptioner(Encoder(), vocabulary)
