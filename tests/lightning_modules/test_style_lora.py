"""Training one style LoRA, step by step."""

import functools
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors import safe_open

from callbacks import CLIPScore, SampleImages, SaveAdapter, WriteResult
from lightning_modules import StyleLoRA
from stylelora.base.load import load_unet, load_vae
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.diffusion import noise
from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.diffusion.sample import initial_noise
from stylelora.lora.lora_file import read_lora
from stylelora.runs.folder import adapter_file
from stylelora.schedules import Schedule
from tests.runs import CONTENTS, Keep, adamw, same, tensors


def test_only_the_adapter_changes(train, tiny_sd):
    _, module = train(epochs=1)
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    start = StyleLoRA(base=str(tiny_sd), rank=4).state_dict()
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, start[name])}
    assert moved == set(trained)

    base = load_unet(tiny_sd).state_dict()
    frozen = {
        name.removeprefix("unet.").replace(".base_layer", ""): value
        for name, value in module.state_dict().items()
        if name not in trained
    }
    assert same(frozen, base)


def test_optimiser_gets_the_adapter_alone(tiny_sd):
    module = StyleLoRA(base=str(tiny_sd), rank=4, optimizer=adamw(0.5, weight_decay=0.25))
    (group,) = module.configure_optimizers().param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in module.parameters() if p.requires_grad}
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert all(parameter.dtype == torch.float32 for parameter in group["params"])


def test_skill_is_zero_before_and_moves_with_training(train):
    keep = Keep()
    train(keep, validate_first=True)
    before, *after = keep.logged
    assert before["val/skill"] == 0
    assert before["val/loss"] == before["val/base_loss"] == after[0]["val/base_loss"] == after[1]["val/base_loss"]
    for values in after:
        assert values["val/skill"] != 0
        assert values["val/skill"] == pytest.approx(1 - values["val/loss"] / values["val/base_loss"], abs=1e-6)
        assert values["val/skill_ci_low"] <= values["val/skill"] <= values["val/skill_ci_high"]


def test_losses_and_pictures_equal_diffusers_with_the_saved_adapter(train, tiny_sd, pictures):
    """Everything again by StableDiffusionPipeline: pictures to latents, noise, loss, the file, sampling."""
    from diffusers import StableDiffusionPipeline

    keep = Keep()
    trainer, _ = train(keep, SaveAdapter(), optimizer=adamw(3e-2))
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.set_progress_bar_config(disable=True)

    def loss():
        losses = []
        for picture in split_by_content(scan_folder(pictures), 0.4)[1]:
            image = ImageOps.fit(Image.open(picture.path), (64, 64), Image.Resampling.LANCZOS)
            pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)[None] / 255 * 2 - 1
            text, _ = pipeline.encode_prompt(f"zqx, {picture.text}", "cpu", 1, do_classifier_free_guidance=False)
            latent = pipeline.vae.encode(pixels).latent_dist.mean * pipeline.vae.config.scaling_factor
            for timestep in BANK_TIMESTEPS:
                draw = noise.normal([("bank", picture.sha256, timestep)], (4, 8, 8))
                noisy = pipeline.scheduler.add_noise(latent, draw, torch.tensor([timestep]))
                losses.append((pipeline.unet(noisy, timestep, text).sample - draw).square().mean().item())
        assert len(losses) == 3 * 8
        return np.mean(losses)

    def drawn(prompts):
        images = pipeline(
            prompts, latents=initial_noise([0, 0], (4, 8, 8)), num_inference_steps=2, guidance_scale=7.5,
            output_type="np",
        ).images  # fmt: skip
        return torch.from_numpy((images * 255).round()).permute(0, 3, 1, 2)

    last, samples = keep.logged[-1], keep.samples[-1]
    with torch.no_grad():
        assert last["val/base_loss"] == pytest.approx(loss(), rel=1e-5)
        assert (samples.base_images - drawn(CONTENTS)).abs().max() <= 1
        pipeline.load_lora_weights(adapter_file(Path(trainer.default_root_dir), "-last"))
        assert last["val/loss"] == pytest.approx(loss(), rel=1e-5)
        assert (samples.images - drawn([f"zqx, {content}" for content in CONTENTS])).abs().max() <= 1
    assert abs(last["val/skill"]) > 1e-3  # else the two halves would compare the same thing
    assert (samples.images.int() - samples.base_images.int()).abs().max() > 1


@pytest.mark.slow
def test_base_pictures_and_losses_are_made_once(train, monkeypatch):
    calls = []
    original = StyleLoRA._bank_losses
    monkeypatch.setattr(StyleLoRA, "_bank_losses", lambda self, *given: calls.append(1) or original(self, *given))
    keep = Keep()
    train(keep, epochs=3)
    batches = 2  # three held-out pictures by two
    assert len(calls) == (3 + 1) * batches
    assert all(torch.equal(samples.base_images, keep.samples[0].base_images) for samples in keep.samples)
    assert not torch.equal(keep.samples[0].images, keep.samples[2].images)


@pytest.mark.slow
def test_the_autoencoder_is_loaded_once_and_is_no_part_of_the_module(train, monkeypatch):
    loads = []
    monkeypatch.setattr("stylelora.diffusion.samples.load_vae", lambda base: loads.append(load_vae(base)) or loads[-1])
    trainer, module = train(Keep(), data={"sample_batch_size": 1})
    trainer.validate(module, trainer.datamodule, verbose=False)
    (vae,) = loads
    assert not any(parameter.requires_grad for parameter in vae.parameters())
    assert {id(parameter) for parameter in vae.parameters()}.isdisjoint(map(id, module.parameters()))
    assert all(name.startswith("unet.") for name in module.state_dict())


def test_a_seed_decides_everything(train, plain):
    ends = [tensors(module) for _, module in (plain, train(seed=0), train(seed=1))]
    assert same(ends[0], ends[1])
    assert not any(torch.equal(ends[0][name], ends[2][name]) for name in ends[0])


@pytest.mark.slow
def test_dropout_works_and_validation_is_free_of_it(train, plain):
    keep = Keep()
    trainer, module = train(keep, lora_dropout=0.5)
    assert not same(tensors(module), tensors(plain[1]))
    assert any(isinstance(part, torch.nn.Dropout) and part.p == 0.5 and part.training for part in module.modules())
    for _ in range(2):
        (again, *_) = trainer.validate(module, trainer.datamodule, verbose=False)
        assert again["val/loss"] == keep.logged[1]["val/loss"]
        assert torch.equal(keep.samples[-1].images, keep.samples[1].images)


@pytest.mark.slow
def test_measuring_leaves_no_trace_in_training(train, plain, tiny_clip):
    alone = tensors(plain[1])
    watched = tensors(train(SampleImages(), CLIPScore(str(tiny_clip)), SaveAdapter(), WriteResult(), Keep())[1])
    first = tensors(train(validate_first=True)[1])
    assert same(alone, watched)
    assert same(alone, first)


@pytest.mark.slow
def test_batches_of_another_size_while_sampling_give_the_same_pictures(train):
    one, two = Keep(), Keep()
    train(one, epochs=1, data={"sample_batch_size": 1})
    train(two, epochs=1, data={"sample_batch_size": 2})
    images = torch.cat([samples.images for samples in one.samples]).int()
    assert (images - two.samples[0].images.int()).abs().max() <= 1


def test_a_resumed_run_equals_a_straight_one(train, plain, tmp_path):
    straight = plain
    trainer, _ = train(SaveAdapter(), epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed = train(SaveAdapter(), ckpt_path=tmp_path / "last.ckpt")
    assert resumed[0].global_step == straight[0].global_step == 2 * 5
    assert same(tensors(resumed[1]), tensors(straight[1]))


# The command line's run, with every callback; read by several tests.


@pytest.mark.slow
def test_captions_are_dropped_while_training_and_never_while_measuring(train, plain):
    """With all captions dropped the prompt cannot matter, and the first held-out loss is as without."""
    watched = Keep(), Keep()
    kept = tensors(train(watched[0], caption_dropout=0.0, validate_first=True)[1])
    dropped = tensors(train(watched[1], caption_dropout=0.9, validate_first=True)[1])
    assert not same(kept, dropped)
    assert watched[0].logged[0]["val/loss"] == watched[1].logged[0]["val/loss"]


@pytest.mark.slow
def test_the_rate_stays_or_falls_to_zero(train):
    class Rates(L.Callback):
        def on_train_start(self, trainer, pl_module):
            self.seen = []

        def on_train_batch_start(self, trainer, *_):
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    constant, falling = Rates(), Rates()
    train(constant)
    train(falling, lr_scheduler=functools.partial(Schedule, shape="linear", decay=0.5))
    assert constant.seen == [1.0e-3] * 10
    assert falling.seen == pytest.approx([1.0e-3 * min(1, (10 - step) / 5) for step in range(10)])


@pytest.mark.slow
def test_the_average_is_what_is_validated_and_saved_and_training_goes_on_without_it(train, plain):
    """What validation measured is in the file; the weights that train are those of a run without an average."""

    class Shown(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            self.layers = {name: value.clone() for name, value in pl_module.named_parameters() if value.requires_grad}

    shown = Shown()
    trainer, module = train(shown, SaveAdapter(every_n_steps=10), ema_decay=0.5)
    own = {name: value for name, value in module.named_parameters() if value.requires_grad}
    assert same(own, {name: value for name, value in plain[1].named_parameters() if value.requires_grad})
    assert not same(own, shown.layers)
    saved = read_lora(adapter_file(Path(trainer.default_root_dir), "-last")).layers
    name = next(iter(saved))
    assert torch.equal(saved[name].up, shown.layers[f"unet.{name}.lora_B.style.weight"])
    of_step = read_lora(next(Path(trainer.default_root_dir).glob("*-epoch=001-step=000010.safetensors"))).layers
    assert torch.equal(of_step[name].up, saved[name].up)  # saved before the validation, of the same step


def test_adapters_of_every_nth_step_and_epoch_are_files_with_no_number_of_others(train):
    trainer, _ = train(SaveAdapter(every_n_steps=4, every_n_epochs=2, dtype="float16"))
    folder = Path(trainer.default_root_dir)
    names = {path.name.removeprefix(folder.name) for path in folder.glob("*.safetensors")}
    point = {4: "-epoch=000-step=000004", 8: "-epoch=001-step=000008", 10: "-epoch=001-step=000010"}
    assert names == {".safetensors", "-last.safetensors", *(f"{one}.safetensors" for one in point.values())}
    for step, which in point.items():
        with safe_open(adapter_file(folder, which), "pt") as file:
            assert file.metadata()["ss_steps"] == str(step)
            assert ("held_out_skill" in file.metadata()) == (step == 10)
            assert {file.get_tensor(key).dtype for key in file.keys() if key.endswith("weight")} == {torch.float16}
