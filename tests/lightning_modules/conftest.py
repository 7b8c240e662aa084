"""Short trainings on a tiny base."""

import lightning.pytorch as L
import pytest

from datamodules import StyleDataModule
from lightning_modules import StyleLoRA
from tests.adapters import write_two
from tests.runs import CONTENTS, adamw
from tests.tiny_sd import SMALLEST_UNET, build_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory):
    """A checkpoint with fewer layers than elsewhere: nothing here depends on them but the time of runs."""
    return build_tiny_sd(tmp_path_factory.mktemp("smallest_sd"), unet=SMALLEST_UNET)


@pytest.fixture(scope="session")
def adapter_files(tiny_sd, tmp_path_factory):
    return write_two(tiny_sd, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def train(tiny_sd, pictures, cache, tmp_path_factory):
    """Train a little; return trainer and module."""

    def run(*callbacks, seed=0, epochs=2, ckpt_path=None, validate_first=False, data=None, **options):
        L.seed_everything(seed, verbose=False)
        module = StyleLoRA(base=str(tiny_sd), rank=4, num_inference_steps=2, **{"optimizer": adamw(1.0e-3), **options})
        settings = {"root": str(pictures), "resolution": 64, "batch_size": 2, "repeats": 2, "held_out": 0.4}
        settings |= {"cache": str(cache), **(data or {})}
        data = StyleDataModule(trigger="zqx", prompts=CONTENTS, **settings)
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
