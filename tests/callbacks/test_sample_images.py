"""The grid of an epoch goes to every logger that takes pictures; others are left alone."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import SampleImages


@pytest.mark.parametrize("kinds", [[], [CSVLogger], [TensorBoardLogger], [CSVLogger, TensorBoardLogger]])
def test_any_list_of_loggers_works(tmp_path, kinds):
    loggers = [kind(tmp_path, name="", version=kind.__name__) for kind in kinds]
    trainer = SimpleNamespace(
        default_root_dir=tmp_path, is_global_zero=True, current_epoch=0, global_step=5, loggers=loggers
    )
    callback = SampleImages()
    grey = torch.full((3, 16, 16), 100, dtype=torch.uint8)
    callback.rows = [{"index": 0, "place": 0, "content": "a cat", "image": grey, "base_image": grey}]
    callback.on_validation_epoch_end(trainer, None)
    assert (tmp_path / "samples" / "epoch=000-step=000005.png").is_file()
    for logger in loggers:
        logger.finalize("success")
    if TensorBoardLogger in kinds:
        events = EventAccumulator(str(tmp_path / "TensorBoardLogger")).Reload()
        assert [event.step for event in events.Images("samples")] == [5]
