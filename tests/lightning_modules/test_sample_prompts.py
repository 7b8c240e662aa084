"""Prompts with options of their own, while training and in `predict`, against diffusers' own pipeline."""

import json
import logging

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image

from callbacks import SampleImages
from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from stylelora.diffusion.sample import initial_noise
from stylelora.records import InputError
from tests.runs import Keep, run_cli

LINE = "a cat --n blurry --w 64 --h 128 --d 7 --s 3 --l 4"


@pytest.fixture(scope="module")
def pipeline(tiny_sd):
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(tiny_sd)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def sampled(tiny_sd, pictures, tmp_path_factory):
    """Validate an untrained adapter, which draws as the base does; return the samples by index and the folder."""
    cache = tmp_path_factory.mktemp("cache")

    def run(**options):
        keep, folder = Keep(), tmp_path_factory.mktemp("run")
        module = StyleLoRA(base=str(tiny_sd), rank=4, num_inference_steps=2)
        data = {"root": str(pictures), "resolution": 64, "batch_size": 2, "repeats": 2, "held_out": 0.4}
        data = StyleDataModule(trigger="zqx", cache=str(cache), **(data | options))
        trainer = L.Trainer(
            default_root_dir=folder, callbacks=[keep, SampleImages()], accelerator="cpu", logger=False,
            enable_progress_bar=False,
        )  # fmt: skip
        trainer.validate(module, data, verbose=False)
        names = ("index", "prompts", "images", "base_images")
        rows = [row for batch in keep.samples for row in zip(*(getattr(batch, name) for name in names), strict=True)]
        return [row[1:] for row in sorted(rows, key=lambda row: row[0])], folder

    return run


def drawn(pipeline, prompt, negative="blurry", width=64, height=128, seed=7, steps=3, guidance_scale=4.0):
    images = pipeline(
        prompt, negative_prompt=negative, width=width, height=height, num_inference_steps=steps,
        guidance_scale=guidance_scale, latents=initial_noise([seed], (4, height // 8, width // 8)), output_type="np",
    ).images  # fmt: skip
    return torch.from_numpy((images[0] * 255).round()).permute(2, 0, 1)


def apart(first, second):
    return (first.float() - second.float()).abs().max().item()


@torch.no_grad()
def test_samples_have_each_option_and_others_the_defaults(sampled, pipeline):
    samples, folder = sampled(prompts=["a red boat", LINE, "zqx, a cat"], samples_per_prompt=2, negative_prompt="ugly")
    prompts, images, base_images = zip(*samples, strict=True)
    assert prompts == ("zqx, a red boat",) * 2 + ("zqx, a cat",) * 4
    plain = {"negative": "ugly", "width": 64, "height": 64, "steps": 2, "guidance_scale": 7.5}
    for number in range(2):
        assert apart(base_images[number], drawn(pipeline, "a red boat", **plain, seed=number)) <= 1
        assert apart(images[number], drawn(pipeline, "zqx, a red boat", **plain, seed=number)) <= 1
        assert apart(base_images[2 + number], drawn(pipeline, "a cat", seed=7 + number)) <= 1
        assert apart(images[2 + number], drawn(pipeline, "zqx, a cat", seed=7 + number)) <= 1
    for other in ({"negative": ""}, {"seed": 0}, {"steps": 2}, {"guidance_scale": 7.5}):  # each is seen in a picture
        assert apart(base_images[2], drawn(pipeline, "a cat", **other)) > 1
    assert apart(base_images[0], drawn(pipeline, "a red boat", **plain | {"negative": ""}, seed=0)) > 1

    with Image.open(next((folder / "samples").glob("*.png"))) as sheet:
        assert sheet.height == 20 + 2 * (64 + 128 + 64) + 3 * 4  # twice as large
    sizes = [Image.open(path).size for path in sorted((folder / "samples").glob("*/*.png"))]
    assert sizes == [(64, 64)] * 2 + [(64, 128)] * 2 + [(64, 64)] * 2


def test_a_file_of_prompts(sampled, tmp_path, caplog):
    (tmp_path / "prompts.txt").write_text(f"# two\n{LINE} --ss ddim\n\na red boat (big:1.3)\n")
    with caplog.at_level(logging.WARNING):
        samples, _ = sampled(prompts_file=str(tmp_path / "prompts.txt"))
    assert [prompt for prompt, *_ in samples] == ["zqx, a cat", "zqx, a red boat (big:1.3)"]
    assert [tuple(image.shape) for _, image, _ in samples] == [(3, 128, 64), (3, 64, 64)]
    assert "line 2: --ss is ignored" in caplog.text
    assert "line 4: '(big:1.3)' is no weight" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts": ["a cat --w 100"]}, "data.prompts 1: width 100 does not suit this base"),
        ({"prompts": ["a cat --l nan"]}, "data.prompts 1: --l is nan"),
        ({"prompts": ["a cat"], "prompts_file": "p.txt"}, "not both"),
        ({"prompts_file": "gone.txt"}, "gone.txt cannot be read"),
    ],
)
def test_a_wrong_prompt_is_refused_before_anything_is_encoded(sampled, monkeypatch, options, said):
    monkeypatch.setattr("stylelora.data.dataset.StyleDataset.scan", None)
    with pytest.raises(InputError, match=said):
        sampled(**options)


def predict(tiny_sd, adapter_files, folder, *more):
    code, said = run_cli([
        "predict",
        "--model=lightning_modules.ComposedStyles",
        f"--model.base={tiny_sd}",
        f"--model.adapters={json.dumps([str(file) for file in adapter_files])}",
        "--model.weights=[0.6, 0.4]",
        "--model.num_inference_steps=2",
        "--data=datamodules.Prompts",
        f"--trainer.default_root_dir={folder}",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
        *more,
    ])  # fmt: skip
    assert code == 0, said
    rows = [json.loads(line) for line in (folder / "pictures.jsonl").read_text().splitlines()]
    return rows


def image(folder, row):
    return torch.from_numpy(np.array(Image.open(folder / row["file_name"]))).permute(2, 0, 1)


@torch.no_grad()
def test_predict_reads_the_same_file(tiny_sd, adapter_files, tmp_path, pipeline, caplog):
    (tmp_path / "p.txt").write_text(f"a red boat\n{LINE} --cn x.png\na cat --l 1 --n ugly\n")
    rows = predict(
        tiny_sd, adapter_files, tmp_path / "run", f"--data.file={tmp_path / 'p.txt'}", "--data.negative_prompt=ugly",
        "--model.guidance_scales=[2, 7.5]",
    )  # fmt: skip
    assert "line 2: --cn is ignored: there are no ControlNets" in caplog.text
    assert "line 3: the negative prompt 'ugly' has no effect at a guidance scale of 1" in caplog.text
    by_prompt = {
        place: [row for row in rows if row["file_name"].startswith(f"pictures/{place:03d}-")] for place in range(3)
    }
    assert [len(by_prompt[place]) for place in range(3)] == [4, 2, 2]  # own guidance replaces both of the run's
    base = by_prompt[1][0]
    assert (base["negative_prompt"], base["guidance_scale"], base["num_inference_steps"], base["seed"]) == (
        "blurry",
        4,
        3,
        7,
    )
    assert apart(image(tmp_path / "run", base), drawn(pipeline, "a cat")) <= 1
    plain = {"negative": "ugly", "width": 64, "height": 64, "steps": 2, "seed": 0}
    for row in by_prompt[0][:2]:
        wanted = drawn(pipeline, "a red boat", **plain, guidance_scale=row["guidance_scale"])
        assert apart(image(tmp_path / "run", row), wanted) <= 1
    assert (
        apart(
            image(tmp_path / "run", by_prompt[0][0]),
            drawn(pipeline, "a red boat", **plain | {"negative": ""}, guidance_scale=2),
        )
        > 1
    )
    with Image.open(tmp_path / "run" / base["file_name"]) as picture:
        assert picture.info["parameters"].startswith(
            "a cat\nNegative prompt: blurry\nSteps: 3, Sampler: PNDMScheduler, "
        )
        assert "CFG scale: 4.0, Seed: 7, Size: 64x128, " in picture.info["parameters"]


@pytest.mark.slow
def test_the_negative_prompt_counts_for_adapters_by_every_method(tiny_sd, adapter_files, tmp_path):
    methods = ["sum", "composite", "anchored", "switch", "k_lora"]
    for name, negative in (("without", ""), ("with", "ugly")):
        more = (
            f"--model.methods=[{','.join(methods)}]",
            "--data.prompts=[a cat]",
            f"--data.negative_prompt={negative}",
        )
        predict(tiny_sd, adapter_files, tmp_path / name, *more)
    for number in range(1 + len(methods)):
        file = {"file_name": f"pictures/000-{number:02d}.png"}
        assert apart(image(tmp_path / "without", file), image(tmp_path / "with", file)) > 1
    assert "Negative" not in Image.open(tmp_path / "without/pictures/000-00.png").info["parameters"]


def test_a_test_samples_all_prompts_in_one_way(tmp_path, pictures):
    from datamodules import EvaluationSet

    with pytest.raises(InputError, match=r"data\.prompts 2 has options, but a test samples all prompts in one way"):
        EvaluationSet([StyleDataModule(root=str(pictures), trigger="zqx")], prompts=["a cat", "a dog --w 64"])
