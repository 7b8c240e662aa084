"""Each option of a training as the module gets it, by what it does to a step, against independent references."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import lightning.pytorch as L
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_with_hard_restarts_schedule_with_warmup
from diffusers.training_utils import compute_snr
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from lightning_modules import StyleLoRA
from stylelora.diffusion import noise
from stylelora.diffusion.objective import Objective
from stylelora.lora.options import LoraOptions
from stylelora.lora.text_encoder import TextEncoderLoRA
from stylelora.schedules import Schedule
from tests.runs import adamw
from tests.tiny_sd import disturb, predict, training_batch

pytestmark = pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered.*")


@pytest.fixture
def built(tiny_sd):
    """Makes a module, whose adapter has an effect."""

    def built(base=tiny_sd, **options):
        module = StyleLoRA(str(base), **{"rank": 4, "caption_dropout": 0.0} | options)
        disturb(module.unet)
        return module

    return built


def loss_of(module, batch=None, number=0):
    with torch.no_grad():
        return module.training_step(batch or training_batch(), number).item()


def seen_by(module, batch):
    """What the UNet is given in a training step: noisy latents, timesteps, and what it predicts."""
    seen = []
    hook = module.unet.register_forward_hook(lambda _, given, made: seen.append((*given[:2], made.sample)))
    loss = loss_of(module, batch)
    hook.remove()
    return *seen[0], loss


def rows(batch, count):
    return {name: value if name == "empty_text" else value[:count] for name, value in batch.items()}


def test_base(built, tiny_sd):
    """The weights of the folder that is named; single files are in test_single_file_base.py."""
    module = StyleLoRA(base=str(tiny_sd), rank=4)
    expected = predict(UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").eval())
    assert torch.allclose(predict(module.unet.eval()), expected, atol=1e-6)
    assert not torch.allclose(predict(built().unet.eval()), expected, atol=1e-3)


@pytest.mark.parametrize("rank", [1, 3])
def test_rank(built, rank):
    factors = {(one.rank, len(one.down), one.up.shape[1]) for one in built(rank=rank).adapter_layers().values()}
    assert factors == {(rank, rank, rank)}


@pytest.mark.parametrize("alpha", [None, 1.0, 6.0])
def test_alpha(built, alpha):
    module = built(rank=3, alpha=alpha)
    layer = module.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.eval()
    x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
    down, up = layer.lora_A["style"].weight, layer.lora_B["style"].weight
    change = layer(x) - layer.get_base_layer()(x)
    assert torch.allclose(change, (3.0 if alpha is None else alpha) / 3 * x @ down.T @ up.T, atol=1e-5)
    assert {one.alpha for one in module.adapter_layers().values()} == {3.0 if alpha is None else alpha}


def test_ranks_and_alphas_of_convolutions(built):
    lora = LoraOptions(rank_pattern={"conv1": 2}, alpha_pattern={"conv1": 1.0})
    layers = built(alpha=8.0, target_modules=["to_q", "conv1"], lora=lora).adapter_layers()
    found = {(name.rpartition(".")[2], one.rank, one.alpha) for name, one in layers.items()}
    assert found == {("to_q", 4, 8.0), ("conv1", 2, 1.0)}


@pytest.mark.parametrize("rate", [None, 5e-5])
def test_learning_rate_of_the_text_encoder(built, rate):
    module = built(optimizer=adamw(2e-4), text_encoder=TextEncoderLoRA(rank=2, learning_rate=rate))
    rates = {id(one): group["lr"] for group in module.configure_optimizers().param_groups for one in group["params"]}
    for part, expected in ((module.unet, 2e-4), (module.text_encoder, rate or 2e-4)):
        assert {rates[id(one)] for one in part.parameters() if one.requires_grad} == {expected}


def rates(optimizer, schedule, steps):
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def same_rates(module, theirs, steps=24):
    """Learning rates of a run of this many steps, and those of a schedule of diffusers."""
    module.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    made = module.configure_optimizers()
    assert isinstance(made, dict) and made["lr_scheduler"]["interval"] == "step"
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    expected = rates(other, theirs(other), steps)
    assert rates(made["optimizer"], made["lr_scheduler"]["scheduler"], steps) == pytest.approx(expected, abs=1e-9)


def test_cosine_with_restarts(built):
    module = built(optimizer=adamw(1e-3), lr_scheduler=partial(Schedule, shape="cosine", cycles=3))
    same_rates(module, lambda one: get_cosine_with_hard_restarts_schedule_with_warmup(one, 0, 24, 3))


@pytest.mark.parametrize("warmup", [6, 0.25])
def test_warmup(built, warmup):
    module = built(optimizer=adamw(1e-3), lr_scheduler=partial(Schedule, warmup=warmup))
    same_rates(module, lambda one: get_constant_schedule_with_warmup(one, 6))


def test_min_snr_gamma(built):
    batch = rows(training_batch(), 1)
    *_, t, _, plain = seen_by(built(), batch)
    snr = compute_snr(DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"), t)
    gamma = snr.item() / 2
    assert loss_of(built(objective=Objective(min_snr_gamma=gamma)), batch) == pytest.approx(plain / 2, rel=1e-4)


def test_noise_offset(built):
    module = built()
    plain, t, *_ = seen_by(module, training_batch())
    shifted, *_ = seen_by(built(objective=Objective(noise_offset=0.5)), training_batch())
    shift = (shifted - plain) / (1 - module.scheduler.alphas_cumprod[t]).sqrt()[:, None, None, None]
    assert torch.allclose(shift, shift[..., :1, :1].expand_as(shift), atol=1e-5)
    assert 0.2 < shift[..., 0, 0].std() < 0.9  # 0.5, of eight draws


def test_v_prediction(built, tiny_sd, tmp_path):
    base = shutil.copytree(tiny_sd, tmp_path / "v")
    file = base / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    batch = training_batch()
    for folder in (tiny_sd, base):
        module = built(folder)
        noisy, t, predicted, loss = seen_by(module, batch)
        latents = module._latents(batch, [("posterior", module.seed, 0, row) for row in batch["row"]])
        draw = noise.normal([("noise", module.seed, 0, row) for row in batch["row"]], latents.shape[1:])
        theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        assert torch.allclose(noisy, theirs.add_noise(latents, draw, t), atol=1e-5)
        target = draw if folder == tiny_sd else theirs.get_velocity(latents, draw, t)
        assert loss == pytest.approx(torch.nn.functional.mse_loss(predicted, target).item(), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_caption_dropout(built, monkeypatch, share):
    given = []
    monkeypatch.setattr(Objective, "losses", lambda *all_, **_: given.append(all_[5].text) or torch.zeros(len(all_[4])))
    batch = training_batch(200)
    loss_of(built(caption_dropout=share), batch)
    dropped = [torch.equal(text, batch["empty_text"][0]) for text in given[0]]
    assert sum(dropped) == pytest.approx(200 * share, abs=20 if share else 0)
    kept = [not one for one in dropped]
    assert torch.equal(given[0][kept], batch["text"][kept])


def test_network_dropout(built):
    plain, dropping = built(), built(lora_dropout=0.5)
    assert loss_of(plain, number=0) == loss_of(plain, number=1)
    assert len({loss_of(plain), loss_of(dropping, number=0), loss_of(dropping, number=1)}) == 3
    assert torch.equal(predict(dropping.unet.eval()), predict(plain.unet.eval()))


def test_attention_is_scaled_dot_product_attention(built, monkeypatch):
    """PyTorch's own, which kohya calls sdpa; of the base and of the adapter, which PEFT puts inside it."""
    module = built()
    assert {type(one) for one in module.unet.attn_processors.values()} == {AttnProcessor2_0}
    calls, own = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or own(*a, **k)
    )
    loss_of(module)
    assert len(calls) == len(module.unet.attn_processors) == 8


def fitted(module, batches, plugins=None, **options):
    """Train on these batches with plain steps against the gradient; return how the adapter moved."""
    before = {name: value.clone() for name, value in module.named_parameters() if value.requires_grad}
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False, plugins=plugins,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))
    after = dict(module.named_parameters())
    return trainer, torch.cat([(before[name] - after[name].detach()).flatten() for name in before])


def gradient_of(module, batches):
    """Mean of the gradients of batches."""
    for batch in batches:
        (module.training_step(batch, 0) / len(batches)).backward()
    return torch.cat([one.grad.flatten() for one in module.parameters() if one.requires_grad])


SGD = partial(torch.optim.SGD, lr=1.0)
FOUR = training_batch(4)
HALVES = [rows(FOUR, 2), {name: value if name == "empty_text" else value[2:] for name, value in FOUR.items()}]


def test_accumulation(built):
    """Two batches of two are one step, of the gradient of all four."""
    trainer, moved = fitted(built(optimizer=SGD), HALVES, accumulate_grad_batches=2)
    assert trainer.global_step == 1
    assert torch.allclose(moved, gradient_of(built(), [FOUR]), rtol=1e-3, atol=1e-6)


def test_clipping(built):
    """The gradient of a step has at most this norm."""
    gradient = gradient_of(built(), [FOUR])
    _, moved = fitted(built(optimizer=SGD), [FOUR], gradient_clip_val=gradient.norm().item() / 3)
    assert torch.allclose(moved, gradient / 3, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(built, precision):
    """Layers compute in half precision and the adapter is trained in float32; fp16 with its loss scaled."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if precision == "16-mixed" else None
    module, made = built(optimizer=SGD), set()
    module.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.register_forward_hook(
        lambda *all_: made.add(all_[-1].dtype)
    )
    own = {"plugins": MixedPrecision(precision, "cpu", scaler)} if scaler else {"precision": precision}
    _, moved = fitted(module, HALVES[:1], **own)  # Lightning itself has fp16 on GPUs only
    assert made == {dtype}
    assert {one.dtype for one in module.parameters()} == {torch.float32}
    assert torch.cosine_similarity(moved, gradient_of(built(), HALVES[:1]), dim=0) > 0.98
