"""Training on batches of several sizes."""

import subprocess
import sys

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from stylelora.records import find
from stylelora.runs.folder import adapter_file
from tests.runs import ROOT, fit_words, same, tensors


@pytest.fixture
def train(tiny_sd, shapes, tmp_path):
    def run(epochs, ckpt_path=None, **options):
        L.seed_everything(0, verbose=False)
        module = StyleLoRA(base=str(tiny_sd), rank=4, num_inference_steps=1)
        data = StyleDataModule(
            root=shapes, trigger="zqx", resolution=128, batch_size=4, held_out=0.15, prompts=["a cat"], buckets=True,
            flip=True, cache=str(tmp_path / "cache"), **options,
        )  # fmt: skip
        trainer = L.Trainer(
            default_root_dir=tmp_path, max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, data, ckpt_path=ckpt_path)
        return trainer, module

    return run


@pytest.mark.slow
def test_a_resumed_run_with_buckets_and_flips_equals_a_straight_one(train, tmp_path):
    straight, module = train(epochs=2)
    assert find(module.metrics, "skill").n == len(straight.datamodule.held_out)
    train(epochs=1)[0].save_checkpoint(tmp_path / "half.ckpt")
    resumed, other = train(epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert resumed.global_step == straight.global_step == 2 * len(straight.train_dataloader) > 0
    assert same(tensors(module), tensors(other))
    assert any(torch.count_nonzero(value) for name, value in tensors(module).items() if name.endswith("up"))


@pytest.mark.slow
def test_worker_processes_change_nothing(train):
    """They stay from one epoch to the next, and each epoch has flips and captions of its own."""
    alone, helped = (train(epochs=2, keep_tags=0, num_workers=count)[1] for count in (0, 1))
    assert same(tensors(alone), tensors(helped))


@pytest.mark.slow
def test_two_processes_train_on_buckets_and_flips_what_one_trains(tiny_sd, shapes, tmp_path):
    adapters = []
    more = ["--model.optimizer.lr=1.0e-4", "--data.init_args.resolution=128"]
    more += ["--data.init_args.buckets=true", "--data.init_args.flip=true"]
    for name, words in {
        "one": ["--data.init_args.batch_size=4"],
        "two": ["--data.init_args.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp"],
    }.items():
        words = fit_words(tiny_sd, "null", shapes, tmp_path / name, *more, *words)
        run = subprocess.run([sys.executable, ROOT / "cli.py", *words], capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        assert run.stderr.count("are smaller than 128 px and are enlarged") == 1
        adapters.append(load_file(adapter_file(tmp_path / name, "-last")))
    assert adapters[0].keys() == adapters[1].keys()
    off = np.concatenate([np.ravel(np.abs(adapters[1][name] - tensor)) for name, tensor in adapters[0].items()])
    assert np.mean(off > 1e-5) < 1e-3  # where a gradient is next to 0, Adam makes a step of its rounding error
    assert off.max() < 1e-4  # one step
