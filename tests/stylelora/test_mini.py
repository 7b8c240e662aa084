"""The embedded base is a complete Stable Diffusion that loads with none of our code, small, and knows its concepts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stylelora.base.load import MINI, resolve_base

WEIGHTS = sorted(MINI.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(MINI)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_it_is_small_and_float16():
    assert sum(path.stat().st_size for path in WEIGHTS) <= 40e6
    count = 0
    for path in WEIGHTS:
        with safe_open(path, "pt") as weights:
            for name in weights.keys():
                part = weights.get_slice(name)
                count += torch.Size(part.get_shape()).numel()
                assert part.get_dtype() in ("F16", "I64"), name
    assert 5e6 < count <= 20e6


def test_layout_is_that_of_stable_diffusion(pipeline):
    assert resolve_base("mini") == MINI
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    expected = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # SD 1.5's schedule
    assert torch.allclose(pipeline.scheduler.betas, expected)
    attending = [name for name in pipeline.unet.config.down_block_types if "CrossAttn" in name]
    assert len(attending) >= 2
    assert pipeline.vae.config.sample_size == 64


def test_prompts_are_obeyed(pipeline):
    """The scorer, trained apart, names what is seen: far above chance (1 in 119), whatever sampled it."""
    from stylelora.data.icon_table import load_concepts, with_article
    from stylelora.metrics.encoders import ClipEncoder

    scorer = ClipEncoder("mini")
    names = list(load_concepts().values())
    prompts = [with_article(name) for name in names]
    pick = list(range(0, len(names), 5))
    images = pipeline(
        [prompts[i] for i in pick],
        num_inference_steps=20,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        height=64,
        width=64,
    ).images
    guess = (scorer.encode_images(images) @ scorer.encode_texts(prompts).T).argmax(1)
    assert (guess == torch.tensor(pick)).float().mean() > 0.5


def test_the_scorer_shares_no_weights_with_the_generator(pipeline):
    from transformers import CLIPModel

    scorer = CLIPModel.from_pretrained(MINI / "scorer")
    ours = pipeline.text_encoder.state_dict()
    theirs = {name.removeprefix("text_model."): w for name, w in scorer.text_model.state_dict().items()}
    shared = [name for name in ours if name.removeprefix("text_model.") in theirs]
    assert shared
    same = [
        name
        for name in shared
        if ours[name].is_floating_point()
        and ours[name].numel() > 1000
        and ours[name].shape == theirs[name.removeprefix("text_model.")].shape
        and torch.equal(ours[name].float(), theirs[name.removeprefix("text_model.")].float())
    ]
    assert not same


def test_configs_tell_nothing_of_where_they_were_made():
    for path in MINI.rglob("*.json"):
        assert "/tmp" not in path.read_text()
        assert not str(json.loads(path.read_text()).get("_name_or_path", "")).startswith("/")


def test_card_and_attribution_are_there():
    assert "CC BY 4.0" in (MINI / "ATTRIBUTION.md").read_text()
    card = (MINI / "README.md").read_text()
    assert "PSNR" in card
    assert Path(MINI / "concepts.txt").read_text().count("\n") >= 100
