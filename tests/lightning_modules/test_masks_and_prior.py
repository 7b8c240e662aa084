"""Runs with masks and with pictures that keep the base's knowledge."""

import pytest
import torch
from PIL import Image

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
