"""Training one style LoRA, from the step to the files of a run."""

import json
import math
import shutil
import signal
from types import SimpleNamespace

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from callbacks import CLIPScore, SampleImages, SaveAdapter, WriteResult
from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from stylelora.base.load import load_unet
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.diffusion import noise
from stylelora.diffusion.loss import BANK_TIMESTEPS
from stylelora.diffusion.sample import initial_noise
from stylelora.experiments import result
from stylelora.records import Metric, SampleBatch
from tests.runs import CONTENTS, fit_words, run_cli


class Keep(L.Callback):
    """Remembers what validation gives and logs."""

    def __init__(self):
        self.samples, self.logged, self.adapters = [], [], []

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        if isinstance(outputs, SampleBatch):
            self.samples.append(outputs)

    def on_validation_end(self, trainer, pl_module):
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.logged.append(values)
        self.adapters.append({name: value.clone() for name, value in pl_module.adapter_state().items()})


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def train(tiny_sd, pictures, cache, tmp_path_factory):
    """Train a little; return trainer and module."""

    def run(*callbacks, seed=0, epochs=2, ckpt_path=None, validate_first=False, data=None, **options):
        L.seed_everything(seed, verbose=False)
        module = StyleLoRA(base=str(tiny_sd), rank=4, sample_steps=2, **{"learning_rate": 1.0e-3, **options})
        settings = {"root": str(pictures), "resolution": 64, "batch_size": 2, "repeats": 2, "held_out": 0.4}
        data = StyleDataModule(trigger="zqx", prompts=CONTENTS, cache=str(cache), **(settings | (data or {})))
        trainer = L.Trainer(
            default_root_dir=tmp_path_factory.mktemp("run"), callbacks=list(callbacks), max_epochs=epochs,
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        if validate_first:
            trainer.validate(module, data, verbose=False)
        trainer.fit(module, data, ckpt_path=ckpt_path)
        return trainer, module

    return run


@pytest.fixture(scope="module")
def plain(train):
    """Trainer and module of a run that nothing watches."""
    return train()


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
    module = StyleLoRA(base=str(tiny_sd), rank=4, learning_rate=0.5, weight_decay=0.25)
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
    trainer, _ = train(keep, SaveAdapter(), learning_rate=3e-2)
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
            prompts, latents=initial_noise([0, 0], (4, 8, 8)), num_inference_steps=2, guidance_scale=4.0,
            output_type="np",
        ).images  # fmt: skip
        return torch.from_numpy((images * 255).round()).permute(0, 3, 1, 2)

    last, samples = keep.logged[-1], keep.samples[-1]
    with torch.no_grad():
        assert last["val/base_loss"] == pytest.approx(loss(), rel=1e-5)
        assert (samples.base_images - drawn(CONTENTS)).abs().max() <= 1
        pipeline.load_lora_weights(trainer.default_root_dir, weight_name="adapter-last.safetensors")
        assert last["val/loss"] == pytest.approx(loss(), rel=1e-5)
        assert (samples.images - drawn([f"zqx, {content}" for content in CONTENTS])).abs().max() <= 1
    assert abs(last["val/skill"]) > 1e-3  # else the two halves would compare the same thing
    assert (samples.images.int() - samples.base_images.int()).abs().max() > 1


def test_base_pictures_and_losses_are_made_once(train, monkeypatch):
    calls = []
    original = StyleLoRA._bank_losses
    monkeypatch.setattr(StyleLoRA, "_bank_losses", lambda self, batch: calls.append(1) or original(self, batch))
    keep = Keep()
    train(keep, epochs=3)
    batches = 2  # three held-out pictures by two
    assert len(calls) == (3 + 1) * batches
    assert all(torch.equal(samples.base_images, keep.samples[0].base_images) for samples in keep.samples)
    assert not torch.equal(keep.samples[0].images, keep.samples[2].images)


def test_a_seed_decides_everything(train, plain):
    ends = [module.adapter_state() for _, module in (plain, train(seed=0), train(seed=1))]
    assert same(ends[0], ends[1])
    assert not any(torch.equal(ends[0][name], ends[2][name]) for name in ends[0])


def test_dropout_works_and_validation_is_free_of_it(train, plain):
    keep = Keep()
    trainer, module = train(keep, dropout=0.5)
    assert not same(module.adapter_state(), plain[1].adapter_state())
    assert any(isinstance(part, torch.nn.Dropout) and part.p == 0.5 and part.training for part in module.modules())
    for _ in range(2):
        (again, *_) = trainer.validate(module, trainer.datamodule, verbose=False)
        assert again["val/loss"] == keep.logged[1]["val/loss"]
        assert torch.equal(keep.samples[-1].images, keep.samples[1].images)


def test_measuring_leaves_no_trace_in_training(train, plain, tiny_clip):
    alone = plain[1].adapter_state()
    watched = train(SampleImages(), CLIPScore(str(tiny_clip)), SaveAdapter(), WriteResult(), Keep())[1].adapter_state()
    first = train(validate_first=True)[1].adapter_state()
    assert same(alone, watched)
    assert same(alone, first)


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
    assert same(resumed[1].adapter_state(), straight[1].adapter_state())


# The command line's run, with every callback; read by several tests.


@pytest.fixture(scope="module")
def run(tiny_sd, tiny_clip, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "styles" / "first"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2))[0] == 0
    return folder


def test_a_run_leaves_these_files(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if "tfevents" not in path.name}
    assert names == {
        "adapter.safetensors", "adapter-last.safetensors", "checkpoints", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "clip_score.jsonl", "config.yaml", "hparams.yaml", "result.json", "samples",
        *(f"samples/epoch=00{epoch}{rest}" for epoch in (0, 1) for rest in ("", ".png", "/000.png", "/001.png")),
    }  # fmt: skip
    assert len(list(run.glob("*tfevents*"))) == 1


def test_a_checkpoint_holds_the_adapter_only(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    names = set(checkpoint["state_dict"])
    adapter = load_file(run / "adapter-last.safetensors")
    assert len(names) == len(adapter) - sum(name.endswith(".alpha") for name in adapter) > 0
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert (run / "checkpoints" / "last.ckpt").stat().st_size < 2**21


def test_adapters_say_what_they_are(run, tiny_sd):
    with safe_open(run / "adapter.safetensors", "pt") as file:
        metadata = file.metadata()
    said = json.dumps(metadata)
    for word in (str(tiny_sd), "wcstyle", "64"):
        assert word in said


def test_resuming_at_the_command_line_equals_the_straight_run(run, tiny_sd, tiny_clip, pictures, tmp_path):
    folder = tmp_path / "resumed"
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=1))[0] == 0
    half = load_file(folder / "adapter-last.safetensors")
    words = fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=2)
    assert run_cli([*words, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"])[0] == 0
    straight = load_file(run / "adapter-last.safetensors")
    assert same(load_file(folder / "adapter-last.safetensors"), straight)
    assert not same(half, straight)
    for name in ("000.png", "001.png"):
        for epoch in ("epoch=000", "epoch=001"):
            assert (folder / "samples" / epoch / name).read_bytes() == (run / "samples" / epoch / name).read_bytes()
    assert (folder / "clip_score.jsonl").read_text() == (run / "clip_score.jsonl").read_text()
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2


def test_the_saved_config_gives_the_same_adapter(run, tmp_path):
    again = tmp_path / "again"
    shutil.copy(run / "config.yaml", tmp_path / "config.yaml")
    words = [f"--trainer.default_root_dir={again}", f"--checkpoint.dirpath={again / 'checkpoints'}"]
    assert run_cli(["fit", f"--config={tmp_path / 'config.yaml'}", *words])[0] == 0
    for name in ("adapter.safetensors", "adapter-last.safetensors"):
        assert same(load_file(again / name), load_file(run / name))


def test_the_result_says_what_the_run_came_to(run):
    record = json.loads((run / "result.json").read_text())
    assert record["status"] == "success"
    assert record["error"] is None
    assert record["epochs"] == 2
    assert record["seconds"] > 0
    assert record["peak_memory_bytes"]["host"] > 2**26
    assert set(record["versions"]) == {"python", *result.PACKAGES}
    assert record["config"] == yaml.safe_load((run / "config.yaml").read_text())
    assert record["config"]["model"]["init_args"]["rank"] == 4
    assert len(record["dataset"]) == 64
    assert set(record["metrics"]) == {"skill", "clip_score[tiny]", "clip_score_base[tiny]"}
    for metric in record["metrics"].values():
        assert set(metric) == {"value", "ci_low", "ci_high", "n", "higher_is_better"}
        assert metric["ci_low"] <= metric["value"] <= metric["ci_high"]
        assert metric["higher_is_better"] is True
    assert record["metrics"]["skill"]["n"] == 3  # held-out pictures
    assert record["metrics"]["clip_score[tiny]"]["n"] == 2  # prompts
    rows = [json.loads(line) for line in (run / "clip_score.jsonl").read_text().splitlines()]
    last = [row["score"] for row in rows if row["epoch"] == 1]
    assert record["metrics"]["clip_score[tiny]"]["value"] == pytest.approx(np.mean(last))


def test_a_second_run_leaves_nothing_of_the_first(run, tiny_sd, tiny_clip, pictures, tmp_path):
    folder = shutil.copytree(run, tmp_path / "again")
    (folder / "adapter-old.safetensors").write_bytes(b"")
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, epochs=1))[0] == 0
    assert not (folder / "adapter-old.safetensors").exists()
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["epoch=000", "epoch=000.png"]
    assert {json.loads(line)["epoch"] for line in (folder / "clip_score.jsonl").read_text().splitlines()} == {0}
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1


def test_validating_a_checkpoint_measures_what_training_did(run, tiny_sd, tiny_clip, pictures, tmp_path):
    """The last checkpoint gives the pictures of the last epoch."""
    words = fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "measured")
    words = ["validate", *words[1:], f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]
    assert run_cli([word for word in words if "max_epochs" not in word])[0] == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "measured" / "samples").rglob("00?.png")}
    assert made == {path.name: path.read_bytes() for path in (run / "samples" / "epoch=001").iterdir()}


# Callbacks, driven by hand.


def test_the_best_adapter_is_that_of_the_highest_skill(train, tiny_sd, tmp_path):
    module = StyleLoRA(base=str(tiny_sd), rank=4)
    start = {name: value.clone() for name, value in module.adapter_state().items()}
    module.adapter_state = lambda: {name: value + trainer.current_epoch for name, value in start.items()}
    trainer = SimpleNamespace(
        default_root_dir=tmp_path,
        is_global_zero=True,
        ckpt_path=None,
        state=SimpleNamespace(fn="fit"),
        datamodule=SimpleNamespace(style="watercolor", trigger="zqx", resolution=64),
    )
    callback = SaveAdapter()
    callback.on_fit_start(trainer, module)
    for epoch, (skill, loss) in enumerate([(0.1, 3.0), (0.3, 2.0), (0.2, 1.0), (math.nan, 0.5)]):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val/skill": torch.tensor(skill), "train/loss": torch.tensor(loss)}
        callback.on_validation_end(trainer, module)
    callback.on_train_end(trainer, module)

    def offset(name):
        saved = load_file(tmp_path / name)
        return {round((saved[key] - value).mean().item(), 3) for key, value in start.items()}

    assert offset("adapter.safetensors") == {1.0}
    assert offset("adapter-last.safetensors") == {3.0}
    assert callback.best == pytest.approx(0.3)

    resumed = SaveAdapter()
    resumed.load_state_dict(callback.state_dict())
    trainer.callback_metrics = {"val/skill": torch.tensor(0.25)}
    resumed.on_validation_end(trainer, module)
    assert offset("adapter.safetensors") == {1.0}


class Breaks(L.LightningModule):
    """Trains one number; stops in the second epoch."""

    metrics = {"skill": Metric(0.5, -math.inf, math.inf, 1, True)}

    def __init__(self, error):
        super().__init__()
        self.number, self.error = torch.nn.Parameter(torch.ones(())), error

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and self.error:
            raise self.error
        return self.number**2

    def train_dataloader(self):
        return DataLoader(torch.ones(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RuntimeError("out of paint"), "failed", "RuntimeError: out of paint"),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt: "),
        (None, "success", None),
    ],
)
def test_a_run_that_ends_early_says_so(tmp_path, error, status, message):
    (tmp_path / "result.json").write_text('{"status": "of a run before"}')
    trainer = L.Trainer(
        default_root_dir=tmp_path, callbacks=[WriteResult()], max_epochs=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    handler = signal.getsignal(signal.SIGINT)
    try:
        if error is None:
            trainer.fit(Breaks(error))
        else:
            with pytest.raises((RuntimeError, SystemExit)):
                trainer.fit(Breaks(error))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores a second Ctrl+C
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["status"], record["error"]) == (status, message)
    assert record["epochs"] == (1 if error else 2)
    assert record["metrics"]["skill"] == {
        "value": 0.5,
        "ci_low": None,
        "ci_high": None,
        "n": 1,
        "higher_is_better": True,
    }
    assert record["config"] is None
