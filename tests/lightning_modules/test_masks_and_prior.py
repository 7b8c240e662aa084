"""Runs with masks and with pictures that keep the base's knowledge."""

import pytest
import torch
from PIL import Image

from lightning_modules import StyleLoRA
from stylelora.base.conditioning import Conditioning
from stylelora.data.prior import Prior
from stylelora.records import find
from tests.runs import Keep, same, tensors


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Folders of masks for the eight pictures: all white, and white on the left half."""
    folders = [tmp_path_factory.mktemp(name) for name in ("white", "left")]
    for folder, width in zip(folders, (60, 30), strict=True):
        for i in range(8):
            mask = Image.new("L", (60, 50))
            mask.paste(255, (0, 0, width, 50))
            mask.save(folder / f"{i}.png")
    return folders


@pytest.mark.slow
def test_white_masks_change_no_bit_and_others_training_and_skill(train, plain, masks):
    runs = [(*train(keep := Keep(), data={"masks": str(folder)}), keep) for folder in masks]
    (_, white, _), (trainer, left, kept) = runs
    assert same(tensors(white), tensors(plain[1]))
    assert find(white.metrics, "skill") == find(plain[1].metrics, "skill")
    assert not same(tensors(left), tensors(plain[1]))
    batch = next(iter(trainer.datamodule.val_dataloader()[0]))
    assert torch.equal(batch["mask"][0, 0, 0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert kept.logged[0]["val/base_loss"] != pytest.approx(plain[0].callback_metrics["val/base_loss"].item(), rel=1e-6)


def test_a_steps_loss_is_the_styles_plus_the_weighted_one_of_the_others(tiny_sd):
    """Ruiz et al. 2022, eq. 2, each half computed on its own."""
    module = StyleLoRA(base=str(tiny_sd), rank=2, caption_dropout=0.0)
    draw = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(4, 4, 8, 8, generator=draw) for name in ("mean", "std")}
    batch |= {"text": torch.randn(4, 77, 32, generator=draw), "empty_text": torch.zeros(1, 77, 32)}
    batch |= {"row": [3, 5, "prior 3", "prior 5"], "weight": torch.tensor([2.0, 2.0, 0.6, 0.6])}

    def half(part):
        keys = [(0, 0, row) for row in batch["row"][part]]
        posterior = {name: batch[name][part] for name in ("mean", "std")}
        latents = module._latents(posterior, [("posterior", *key) for key in keys])
        given = Conditioning(batch["text"][part])
        return module.objective.losses(module.unet, module.scheduler, latents, keys, given).mean()

    with torch.no_grad():
        expected = half(slice(2)) + 0.3 * half(slice(2, 4))
        assert torch.allclose(module.training_step(batch, 0), expected, rtol=1e-5)
        plain = {name: value[:2] for name, value in batch.items() if name != "weight"}
        assert torch.allclose(module.training_step(plain, 0), half(slice(2)), rtol=1e-6)


@pytest.mark.slow
def test_pictures_are_made_before_training_and_weight_0_changes_no_bit(train, plain, tmp_path):
    made = {"root": str(tmp_path / "made"), "count": 3}
    _, off = train(data={"prior": Prior(**made, weight=0.0)})
    assert same(tensors(off), tensors(plain[1])) and not (tmp_path / "made").exists()
    trainer, on = train(data={"prior": Prior(**made)})
    assert not same(tensors(on), tensors(plain[1]))
    captions = {picture.text for picture in trainer.datamodule.train}
    assert {(tmp_path / "made" / f"000{i}.txt").read_text() for i in range(3)} <= captions
    batch = next(iter(trainer.train_dataloader))
    assert len(batch["mean"]) == 4 and batch["row"][2:] == [f"prior {row}" for row in batch["row"][:2]]
    _, again = train(data={"prior": Prior(**made)})
    assert same(tensors(on), tensors(again))
    _, weaker = train(data={"prior": Prior(**made, weight=0.5)})
    assert not same(tensors(on), tensors(weaker))
