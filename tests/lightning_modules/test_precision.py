"""Float32 means float32 with every verb, or TF32 in convolutions where matrix products use it."""

from types import SimpleNamespace

import pytest
import torch

from lightning_modules import ComposedStyles, StyleLoRA


@pytest.mark.parametrize(("precision", "allowed"), [("highest", False), ("high", True)])
@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_convolutions_are_as_exact_as_matrix_products(tiny_sd, monkeypatch, stage, precision, allowed):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not allowed)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    trained = stage in ("fit", "validate")
    module = StyleLoRA(str(tiny_sd), rank=1) if trained else ComposedStyles([], [], str(tiny_sd))
    module.trainer = SimpleNamespace(datamodule=None)
    module.setup(stage)
    assert torch.backends.cudnn.allow_tf32 is allowed
