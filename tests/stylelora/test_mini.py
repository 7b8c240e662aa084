"""The embedded base is a complete Stable Diffusion that loads with none of our code, small, and knows its concepts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stylelora.base.load import MINI, resolve_base, sampling_recipe

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
    """The scorer, trained apart, names what is seen: far above chance (1 in 309), whatever sampled it."""
    from stylelora.base.concepts import load_concepts, with_article
    from stylelora.metrics.encoders import ClipEncoder

    scorer = ClipEncoder("mini")
    names = list(load_concepts().values())
    prompts = [with_article(name) for name in names]
    pick = list(range(0, len(names), 10))
    steps, guidance_scale = sampling_recipe(MINI)
    images = pipeline(
        [prompts[i] for i in pick],
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
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
    assert Path(MINI / "concepts.txt").read_text().count("\n") >= 300


def test_the_style_encoder_is_small_and_tells_renderings_apart():
    """Pictures it has never seen, in four renderings: the nearest other picture is rendered alike far above chance."""
    from stylelora.data.images import fit, to_tensor
    from stylelora.data.reading import open_picture
    from stylelora.data.scan import scan_folder
    from stylelora.data.styles import STYLES
    from stylelora.metrics.style import StyleEncoder
    from stylelora.pretraining.renderings import fine_mosaic, inked, sepia, sketched

    assert (MINI / "style_encoder" / "model.safetensors").stat().st_size <= 8e6
    pictures = [fit(open_picture(one.path), (64, 64), "lanczos") for one in scan_folder(STYLES["cartoon"].folder)[:24]]
    images = torch.stack([to_tensor(picture) for picture in pictures]).float() / 255
    kinds = [rendering(images) for rendering in (fine_mosaic, inked, sepia, sketched)]
    vectors = StyleEncoder().encode_images((torch.cat(kinds) * 255).round().to(torch.uint8))
    label = torch.arange(4).repeat_interleave(24)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1)
    assert (label[nearest] == label).float().mean() > 0.8


def test_a_base_says_what_sampling_suits_it(tiny_sd):
    steps, guidance_scale = sampling_recipe(MINI)
    assert 4 <= steps <= 30
    assert 1 <= guidance_scale <= 10
    assert sampling_recipe(tiny_sd) == (30, 7.5)
