"""What other programs show of a trained LoRA: notes in the header, a preview, a model card."""

import base64
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors import safe_open

from stylelora.runs.folder import adapter_file
from tests.runs import fit_words, metrics_of, run_cli


@pytest.fixture(scope="module")
def run(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mystyle"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2))[0] == 0
    return folder


@pytest.fixture(scope="module")
def notes(run):
    with safe_open(adapter_file(run), "pt") as file:
        return file.metadata()


def test_the_header_says_what_kohyas_does(run, notes, tiny_sd):
    said = {key: value for key, value in notes.items() if key.startswith("ss_")}
    assert said.pop("ss_sd_model_name") == tiny_sd.name
    assert said.pop("ss_base_model_version") == tiny_sd.name  # its text embeddings are neither SD 1's nor SD 2's
    assert json.loads(said.pop("ss_bucket_info")) == {"buckets": {"0": {"resolution": [64, 64], "count": 10}}}
    tags = json.loads(said.pop("ss_tag_frequency"))
    (counted,) = tags.values()
    assert counted.pop("wcstyle") == 5
    assert sum(counted.values()) == 5
    assert all(tag.startswith("a thing with number ") for tag in counted)
    (folder,) = json.loads(said.pop("ss_dataset_dirs")).values()
    assert folder == {"n_repeats": 2, "img_count": 5}
    assert said == {
        "ss_output_name": "mystyle", "ss_v2": "False", "ss_resolution": "(64, 64)", "ss_num_train_images": "10",
        "ss_num_epochs": "2", "ss_epoch": str(int(notes["epoch"]) + 1), "ss_learning_rate": "0.001",
        "ss_steps": str(5 * (int(notes["epoch"]) + 1)),
        "ss_unet_lr": "0.001", "ss_text_encoder_lr": "None", "ss_batch_size_per_device": "2", "ss_seed": "0",
        "ss_optimizer": "torch.optim.AdamW", "ss_caption_dropout_rate": "0.1", "ss_clip_skip": "1",
        "ss_enable_bucket": "False", "ss_network_module": "networks.lora", "ss_network_dim": "4",
        "ss_network_alpha": "16.0",
    }  # fmt: skip
    assert notes["modelspec.trigger_phrase"] == notes["trigger"] == "wcstyle"
    assert (notes["modelspec.title"], notes["modelspec.resolution"]) == ("mystyle", "64x64")
    assert notes["modelspec.architecture"].endswith("/lora")


def test_thumbnail_and_preview_are_the_kept_epochs_first_sample(run, notes):
    sample = Image.open(run / "samples" / f"epoch={int(notes['epoch']):03d}" / "000.png")
    preview = Image.open(run / "mystyle.preview.png")
    assert np.array_equal(np.asarray(sample), np.asarray(preview))
    kind, content = notes["modelspec.thumbnail"].split(",")
    assert kind == "data:image/jpeg;base64"
    small = Image.open(io.BytesIO(base64.b64decode(content)))
    assert small.size == (64, 64)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(sample.convert("RGB"))).mean() < 15  # of noise
    assert notes["prompt"] == "wcstyle, a cat"


def test_the_card_says_what_how_and_how_well(run, notes):
    head, text = (run / "mystyle.md").read_text().removeprefix("---\n").split("---\n", 1)
    head = yaml.safe_load(head)
    assert head["instance_prompt"] == "wcstyle"
    assert head["widget"] == [{"text": "wcstyle, a cat", "output": {"url": "mystyle.preview.png"}}]
    assert "base_model" not in head  # a folder of this machine says nothing to others
    skill = metrics_of(run)["skill"]
    assert f"| skill | {skill['value']:.3f} | {skill['ci_low']:.3f} to {skill['ci_high']:.3f} | 3 |" in text
    assert f"samples/epoch={int(notes['epoch']):03d}.png" in text
    assert "licence: not stated" in text
    assert "| rank | 4 |" in text
