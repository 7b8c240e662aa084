"""An adapter that starts late: until then the base draws alone, without the trigger word."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from callbacks import SaveAdapter
from stylelora.base.conditioning import encode_texts
from stylelora.base.load import load_scheduler, load_text_encoder, load_tokenizer, load_unet
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.diffusion import noise
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.diffusion.sample import initial_noise
from stylelora.lora.merge import merge
from stylelora.lora.read import read_adapter, read_adapters
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from tests.adapters import write_two
from tests.runs import CONTENTS, Keep, adamw, fit_words, run_cli
from tests.tiny_sd import build_tiny_sd

STEPS = 5


@pytest.fixture(scope="module")
def tiny_sd(tmp_path_factory):
    """With every layer, since which path of random weights comes nearer depends on them."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny_sd"))


@pytest.fixture(scope="module")
def adapter_files(tiny_sd, tmp_path_factory):
    return write_two(tiny_sd, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def pipeline(tiny_sd):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline, stages, steps, output):
    """Draw with diffusers; `stages`: index of a call of the UNet -> prompts, and weights of the loaded LoRAs."""

    def begin(call, given):
        prompts, weights = stages[call]
        pipeline.set_adapters(list(weights), list(weights.values()))
        texts, empty = pipeline.encode_prompt(prompts, "cpu", 1, do_classifier_free_guidance=True)
        return given | {"prompt_embeds": torch.cat([empty, texts])}

    def after(_, call, __, given):
        return begin(call + 1, given) if call + 1 in stages else given

    first = begin(0, {})["prompt_embeds"]
    return pipeline(
        prompt_embeds=first[len(first) // 2 :], negative_prompt_embeds=first[: len(first) // 2],
        latents=initial_noise([0, 0], (4, 8, 8)), num_inference_steps=steps, guidance_scale=7.5, output_type=output,
        callback_on_step_end=after, callback_on_step_end_tensor_inputs=["prompt_embeds"],
    ).images  # fmt: skip


def test_samples_loss_and_file_of_a_run_are_as_diffusers_makes_them(train, pipeline, pictures):
    keep = Keep()
    trainer, _ = train(keep, SaveAdapter(), optimizer=adamw(3e-2), start=0.5)
    file, last, samples = adapter_file(Path(trainer.default_root_dir), "-last"), keep.logged[-1], keep.samples[-1]
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["lora_start"] == "0.5"
    assert read_adapter(file).start == 0.5
    pipeline.load_lora_weights(file, adapter_name="zqx")
    prompts = [f"zqx, {content}" for content in CONTENTS]
    with torch.no_grad():
        images = drawn(pipeline, {0: (CONTENTS, {"zqx": 0.0}), 1: (prompts, {"zqx": 1.0})}, 2, "np")
        theirs = torch.from_numpy((images * 255).round()).permute(0, 3, 1, 2)
        assert (samples.images - theirs).abs().max() <= 1
        losses = []
        for picture in split_by_content(scan_folder(pictures), 0.4)[1]:
            image = ImageOps.fit(Image.open(picture.path), (64, 64), Image.Resampling.LANCZOS)
            pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None] / 255 * 2 - 1
            latent = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
            text, _ = pipeline.encode_prompt(f"zqx, {picture.text}", "cpu", 1, do_classifier_free_guidance=False)
            for timestep in BANK_TIMESTEPS:
                pipeline.set_adapters(["zqx"], [float(timestep <= 500)])
                draw = noise.normal([("bank", picture.sha256, timestep)], (4, 8, 8))
                noisy = pipeline.scheduler.add_noise(latent, draw, torch.tensor([timestep]))
                losses.append((pipeline.unet(noisy, timestep, text).sample - draw).square().mean().item())
        assert last["val/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert (samples.images.int() - samples.base_images.int()).abs().max() > 1


@pytest.mark.slow
def test_card_and_last_words_of_a_run_say_it(tiny_sd, tiny_clip, pictures, tmp_path, capsys):
    status, said = run_cli([*fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "ink"), "--model.start=0.5"])
    assert status == 0, said
    assert "it joins after 50% of the steps; other programs use it from the first one" in capsys.readouterr().out
    card = (tmp_path / "ink" / "ink.md").read_text()
    assert "it joins after 50% of the steps.\n\n## Measured" in card and "| start | 0.5 |" in card


@pytest.fixture
def sample(tiny_sd, adapter_files):
    """Sample latents of two prompts with adapters that join after 0.2 and 0.6 of five steps."""
    text_encoder, tokenizer, unet = load_text_encoder(tiny_sd), load_tokenizer(tiny_sd), load_unet(tiny_sd)

    def run(method="sum", starts=(0.2, 0.6), weights=(0.6, 0.4)):
        blends = Blends(read_adapters(adapter_files, starts=starts))
        condition = Condition(method, weights, STEPS, 7.5)
        noises = initial_noise([0, 0], (4, 8, 8))
        embed = lambda texts, updates: encode_texts(tokenizer, text_encoder, texts)  # noqa: E731
        return sample_condition(unet, load_scheduler(tiny_sd), blends, condition, noises, CONTENTS, embed)

    return run


def test_each_adapter_of_a_blend_joins_at_its_own_step_as_in_diffusers(sample, pipeline, adapter_files):
    for file in adapter_files:
        pipeline.load_lora_weights(file, adapter_name=file.stem)
    stages = {
        0: (CONTENTS, {"ink": 0.0, "oil": 0.0}),
        1: ([f"inkstyle, {content}" for content in CONTENTS], {"ink": 0.6, "oil": 0.0}),
        3: ([f"inkstyle, oilstyle, {content}" for content in CONTENTS], {"ink": 0.6, "oil": 0.4}),
    }
    with torch.no_grad():
        theirs = drawn(pipeline, stages, STEPS, "latent")
    assert torch.allclose(sample(), theirs, atol=1e-3)
    assert not torch.allclose(sample(starts=(0, 0)), theirs, atol=1e-1)


METHODS = [
    "composite",
    *(pytest.param(one, marks=pytest.mark.slow) for one in ("anchored", "switch", "k_lora", "ties")),
]


@pytest.mark.parametrize("method", METHODS)
def test_so_it_is_by_every_method(sample, method):
    """Where the second joins after all but the last step, the others are the first's alone."""
    alone = sample("sum", starts=(0.2, 0), weights=(0.6, 0.0))
    late, early = sample(method, starts=(0.2, 0.8)), sample(method, starts=(0, 0))
    assert 0 < (late - alone).norm() < (early - alone).norm()
    assert torch.equal(sample(method, starts=(0.2, 0.99)), late), "all have the last step"


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ([0.2], "2 adapters and 1 starts; give each adapter one"),
        ([0.2, 1.0], "has the start '1'; give a share of the steps, 0 to below 1"),
        ([-0.1, 0], "has the start '-0.1'"),
        ([float("nan"), 0], "has the start 'nan'"),
    ],
)
def test_what_is_no_share_is_refused(adapter_files, starts, said):
    with pytest.raises(InputError, match=said):
        read_adapters(adapter_files, starts=starts)


def test_pictures_say_it(tiny_sd, adapter_files, tmp_path):
    words = ["predict", "--model=lightning_modules.ComposedStyles", "--data=datamodules.Prompts"]
    words += [f"--model.base={tiny_sd}", f"--model.adapters={json.dumps([str(file) for file in adapter_files])}"]
    words += ["--model.weights=[[0.6, 0.4], [1, 0]]", "--model.starts=[0.5, 0]", "--model.num_inference_steps=2"]
    words += ["--data.prompts=[a cat]", f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]
    status, said = run_cli(words)
    assert status == 0, said
    rows = [json.loads(line) for line in (tmp_path / "pictures.jsonl").read_text().splitlines()]
    assert [row["starts"] for row in rows] == [{}, {"ink": 0.5}, {"ink": 0.5}]
    with Image.open(tmp_path / rows[1]["file_name"]) as picture:
        assert "LoRA starts: ink 0.5" in picture.info["parameters"]


def test_a_merged_file_says_it_if_its_sources_agree(adapter_files, tmp_path, capsys):
    ink, oil = map(str, adapter_files)
    late, merged = str(tmp_path / "late.safetensors"), tmp_path / "merged.safetensors"
    with safe_open(ink, "pt") as opened:
        save_file(load_file(ink), late, metadata=opened.metadata() | {"lora_start": "0.5"})
    for files, start, several in (([ink, oil], 0, False), ([late, oil], 0, True), ([late], 0.5, False)):
        merge(files, [0.5] * len(files), str(merged))
        assert read_adapter(merged).start == start
        assert ("join after different shares of the steps (0, 0.5)" in capsys.readouterr().out) == several
