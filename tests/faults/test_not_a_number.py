"""NaN and infinity: where they come from is said before anything is learned or saved of them."""

import logging
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import Precision
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from callbacks import SaveAdapter
from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from stylelora.data.cache import Cache, View, write
from stylelora.data.scan import scan_folder
from stylelora.diffusion import noise, watch
from stylelora.diffusion.objective import Objective
from stylelora.diffusion.sample import decode
from stylelora.diffusion.watch import check_checkpoint
from stylelora.records import InputError
from tests.runs import adamw
from tests.tiny_sd import training_batch

NAN, INF = float("nan"), float("inf")
FILES = ["style/a.png", "style/b.png"]


@pytest.fixture
def module(tiny_sd):
    module = StyleLoRA(base=str(tiny_sd), rank=2, caption_dropout=0.0)
    module.optimizer = module._optimizer()
    return module


def batch_of(**changed):
    return training_batch() | {"file": FILES, "caption": ["a fox", "a hat"], "sha256": ["0", "1"]} | changed


def spoiled(values, row, value=NAN):
    values = values.clone()
    values[row].view(-1)[3] = value
    return values


def step(module, batch, spoil=lambda module: None):
    """What Lightning does in a step, up to the optimiser's."""
    module.training_step(batch, 0).backward()
    spoil(module)
    module.watch.check_step(1, Precision())


def weight(module, trained, value):
    """Put a number into the last weight of the UNet that is trained, or of those that are not."""
    chosen = [one for one in module.unet.parameters() if one.requires_grad == trained][-1]
    with torch.no_grad():
        chosen.view(-1)[-1] = value


def poisoned_gradient(module):
    next(one for one in module.parameters() if one.requires_grad and one.grad is not None).grad.view(-1)[0] = NAN


@pytest.fixture(autouse=True)
def no_log(monkeypatch):
    monkeypatch.setattr(StyleLoRA, "log", lambda *_, **__: None)


BASE, TRAINING = "so the base, .*, is at fault", "so the training is at fault: lower the learning rate"
CASES = {
    "latent": (lambda module, batch: batch.update(mean=spoiled(batch["mean"], 1)), "the latent of style/b.png is not"),
    "infinite": (lambda module, batch: batch.update(std=spoiled(batch["std"], 0, INF)), "the latent of style/a.png is"),
    "text": (lambda module, batch: batch.update(text=spoiled(batch["text"], 1)), rf"embedding of 'a hat' .*{BASE}"),
    "weight": (lambda module, batch: weight(module, False, NAN), rf"weights of the base .*conv_out.bias.*{BASE}"),
    "overflow": (lambda module, batch: weight(module, False, 1e38), rf"predicts without the LoRA is not.*{BASE}"),
    "adapter": (lambda module, batch: weight(module, True, NAN), rf"the step before made weights .*lora_B.*{TRAINING}"),
    "diverged": (lambda module, batch: weight(module, True, 1e38), rf"that of the base alone is one, {TRAINING}"),
}


@pytest.mark.parametrize("name", CASES)
def test_whose_fault_it_is_is_said_with_step_pictures_and_timesteps(module, name):
    spoil, said = CASES[name]
    batch = batch_of()
    spoil(module, batch)
    before = [one.clone() for one in module.parameters() if one.requires_grad]
    with pytest.raises(InputError, match=said) as refused:
        step(module, batch)
    times = ", ".join(str(int(t)) for t in noise.timesteps([("timestep", 0, 0, row) for row in (0, 1)], 1000))
    start = f"training stopped before step 1 (style/a.png, style/b.png; timesteps {times}): "
    assert str(refused.value).startswith(start)
    assert str(refused.value).endswith("; what was saved before is as it was") and "\n" not in str(refused.value)
    after = [one for one in module.parameters() if one.requires_grad]
    assert all(torch.equal(a, b) or a.isnan().any() for a, b in zip(before, after, strict=True))
    if name != "weight":  # held-out pictures are looked at, too
        with pytest.raises(InputError, match=rf"held-out pictures is not a number after step 0 \(style/.*{said}"):
            module._bank_losses(batch | ({"mean": batch["mean"] + batch["std"]} if name == "infinite" else {}))


def test_gradients_that_are_none_are_the_trainings_unless_a_scaler_skips_the_step(module):
    with pytest.raises(InputError, match=rf"losses are numbers and gradients are not, {TRAINING}"):
        step(module, batch_of(), poisoned_gradient)
    module.training_step(batch_of(), 0).backward()
    poisoned_gradient(module)
    module.watch.check_step(1, SimpleNamespace(scaler=object()))


def test_a_scaler_that_skips_every_step_ends_the_training(module):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-9)
    module.watch.check_weights(3, SimpleNamespace(scaler=scaler))
    with pytest.raises(InputError, match=r"after step 3: all steps lately had gradients that are not"):
        module.watch.check_weights(3, SimpleNamespace(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**-11)))


def test_what_another_process_found_is_said_by_all(module, monkeypatch):
    monkeypatch.setattr(watch, "gather_objects", lambda said: [said, "c.png; timesteps 3): the latent of c.png"])
    with pytest.raises(InputError, match=r"step 1 \(c.png; timesteps 3\): the latent of c.png; what was saved"):
        step(module, batch_of(), poisoned_gradient)


def test_of_the_batches_of_a_step_the_one_at_fault_is_named(module):
    module.training_step(batch_of(), 0).backward()
    module.training_step(batch_of(file=["c.png", "d.png"], mean=spoiled(training_batch()["mean"], 0)), 1).backward()
    with pytest.raises(InputError, match=r"step 1 \(c.png, d.png; .*the latent of c.png"):
        module.watch.check_step(1, Precision())
    step_of = module.watch.seen
    assert step_of == []


def test_a_step_asks_the_device_once(module):
    asked = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            asked.extend([func] if "_local_scalar_dense" in str(func) else [])
            return func(*args, **(kwargs or {}))

    module.training_step(batch_of(), 0).backward()
    module.training_step(batch_of(), 1).backward()
    with Count():
        module.watch.check_step(1, Precision())
    assert len(asked) == 1


def test_losses_are_those_of_the_objective(module):
    batch = batch_of()
    keys, latents = [(0, 0, 0), (0, 0, 1)], batch["mean"]
    given = module._given(batch)
    wanted = Objective().losses(module.unet, module.scheduler, latents, keys, given)
    assert torch.equal(module.watch.losses(module.objective, batch, latents, keys, given), wanted)


@pytest.mark.parametrize("part", ["state_dict", "average", "optimizer_states"])
def test_a_checkpoint_holds_numbers(part):
    check_checkpoint({"global_step": 3, part: {"a": [{"b": torch.ones(2)}, 1, None]}, "other": torch.tensor(NAN)})
    with pytest.raises(InputError, match=rf"checkpoint of step 3 would hold what is not a number \({part}.a.0.b\)"):
        check_checkpoint({"global_step": 3, part: {"a": [{"b": torch.tensor([1.0, INF])}]}})


def test_what_the_autoencoder_or_text_encoder_cannot_encode_is_named(tiny_sd, pictures, tmp_path, monkeypatch):
    cache, picture = Cache(tmp_path, tiny_sd, "cpu"), scan_folder(pictures)[2]
    vae, encoder = cache._vae(), cache._text_encoder()
    vae.quant_conv.bias.data[0] = NAN
    encoder.final_layer_norm.bias.data[0] = INF
    monkeypatch.setattr(cache, "_vae", lambda: vae)
    monkeypatch.setattr(cache, "_text_encoder", lambda: encoder)
    with pytest.raises(InputError, match=r"^the latent of .*2.bmp is not a number"):
        cache.latent(picture, View((64, 64), "box"))
    with pytest.raises(InputError, match=r"^the text embedding of 'a fox' is not a number .*text encoder is at fault"):
        cache.text("a fox")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_cached_latent_that_is_none_is_computed_again(tiny_sd, pictures, tmp_path, caplog):
    cache, view, picture = Cache(tmp_path, tiny_sd, "cpu"), View((64, 64), "box"), scan_folder(pictures)[0]
    good = cache.latent(picture, view)
    write(cache.latent_path(picture, view), {**good, "mean": spoiled(good["mean"][None], 0)[0]})
    with caplog.at_level(logging.WARNING):
        assert torch.equal(cache.latent(picture, view)["mean"], good["mean"])
    assert "is damaged and is computed again" in caplog.text


def test_there_are_no_black_pictures(module):
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=1.0), dtype=torch.float32)
    vae.decode = lambda latents: SimpleNamespace(sample=latents[:, :3] / latents[:, 3:])
    latents = torch.ones(3, 4, 8, 8)
    named = [f"'a cat' (seed {seed})" for seed in range(3)]
    assert decode(vae, latents, named).min() == 255
    with pytest.raises(InputError, match=r"the latent of 'a cat' \(seed 1\) is not a number .* LoRA is at fault"):
        decode(vae, spoiled(latents, 1), named)
    latents[2, 3] = 0
    with pytest.raises(InputError, match=r"the picture of 'a cat' \(seed 2\) is not .* autoencoder is at fault"):
        decode(vae, latents, named)
    batch = {"num_inference_steps": 2, "guidance_scale": 1e38, "seed": [5], "latent_shape": (4, 8, 8)}
    batch |= {"prompt": ["zqx, a cat"], "content": ["a cat"], "index": [0], "place": [0]}
    texts = {f"{name}text": torch.randn(1, 77, 32) for name in ("", "content_", "negative_")}
    with pytest.raises(InputError, match=r"the latent of 'a cat' \(seed 5\) is not a number"):
        module.sampler.draw(module.unet, batch | texts)


class Poison(L.Callback):
    """Spoils a gradient or a weight at a step."""

    def __init__(self, where, at):
        self.where, self.at, self.known = where, at, {}

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if self.where == "gradient" and trainer.global_step == self.at:
            self.known = files(trainer.default_root_dir)
            poisoned_gradient(module)

    def on_train_batch_end(self, trainer, module, *_):
        if self.where == "weight" and trainer.global_step == self.at:
            self.known = files(trainer.default_root_dir)
            weight(module, True, NAN)


def files(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "at", "said"),
    [
        ("gradient", 6, "before step 7"),
        ("weight", 5, "after step 5"),  # at the validation
        ("weight", 6, "after step 6"),  # where the adapter would be saved
        ("weight", 7, "before step 8"),  # at the next loss
    ],
)
def test_a_run_keeps_its_last_good_adapter_and_checkpoint(tiny_sd, pictures, tmp_path, where, at, said):
    """Epochs have 5 steps; each ends with a validation, and each second step with a checkpoint and an adapter."""
    L.seed_everything(0, verbose=False)
    module = StyleLoRA(base=str(tiny_sd), rank=4, num_inference_steps=2, optimizer=adamw(1.0e-3), ema_decay=0.9)
    data = StyleDataModule(str(pictures), 64, 2, 2, 0.4, ["a cat"], trigger="zqx", cache=str(tmp_path / "cache"))
    checkpoints = ModelCheckpoint(tmp_path / "run" / "checkpoints", save_last=True, every_n_train_steps=2)
    poison = Poison(where, at)
    trainer = L.Trainer(
        default_root_dir=tmp_path / "run", callbacks=[poison, SaveAdapter(every_n_steps=2), checkpoints], max_epochs=4,
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    with pytest.raises(InputError, match=TRAINING) as refused:
        trainer.fit(module, data)
    assert str(refused.value).startswith(f"training stopped {said}")
    assert trainer.global_step == at
    assert poison.known and files(tmp_path / "run") == poison.known
    for path in (tmp_path / "run").rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert all(file.get_tensor(key).isfinite().all() for key in file.keys())
    check_checkpoint(torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True))
