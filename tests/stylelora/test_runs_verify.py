"""An adapter that is no use is found when its training ends."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from stylelora.base.load import load_unet
from stylelora.lora.blend import added
from stylelora.lora.inject import adapted_modules, inject_lora
from stylelora.lora.lora_file import read_lora
from stylelora.lora.read import read_adapter
from stylelora.records import InputError
from stylelora.runs.verify import _applied, check_adapters
from tests.adapters import EVERYTHING
from tests.tiny_sd import disturb, predict


@pytest.fixture(scope="module")
def unet(tiny_sd):
    """A UNet with an adapter of its own, which must not matter."""
    unet = load_unet(tiny_sd)
    inject_lora(unet, 4, None, 0.0, EVERYTHING, seed=0)
    disturb(unet)
    return unet


@pytest.mark.parametrize("number", [0, 1])
def test_a_file_is_tried_on_the_base_as_it_would_be_used(tiny_sd, unet, adapter_files, number):
    file = adapter_files[number]
    clean = load_unet(tiny_sd)
    with added(clean, read_adapter(file).unet):
        wanted = predict(clean)
    before = predict(unet)
    for layer in adapted_modules(unet).values():
        layer.enable_adapters(False)
    try:
        with _applied(unet, read_lora(file).layers):
            assert torch.allclose(predict(unet), wanted, atol=1e-5)
        assert torch.equal(predict(unet), predict(clean))
    finally:
        for layer in adapted_modules(unet).values():
            layer.enable_adapters(True)
    check_adapters([file], unet)
    assert torch.equal(predict(unet), before)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "zero everywhere"),
        (math.nan, "NaN or infinite"),
        (1e30, "that are not finite"),
        (1e-30, "changes nothing"),
    ],
)
def test_one_that_is_no_use_is_refused(adapter_files, unet, tmp_path, value, message):
    tensors = load_file(adapter_files[0])
    file = tmp_path / "a.safetensors"
    save_file({name: one.fill_(value) if "lora_up" in name else one for name, one in tensors.items()}, file)
    with pytest.raises(InputError, match=message):
        check_adapters([file], unet)


def test_no_file_at_all_is_refused(unet):
    with pytest.raises(InputError, match="no adapter was saved"):
        check_adapters([], unet)
