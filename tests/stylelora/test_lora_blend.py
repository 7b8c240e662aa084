"""Blends in a UNet, in a file and in diffusers are one and the same."""

import shutil
from pathlib import Path

import pytest
import torch

from stylelora.lora.blend import added, blend
from stylelora.lora.factors import Factors
from stylelora.lora.merge import merge
from stylelora.lora.read import read_adapter
from stylelora.records import InputError
from tests.adapters import base_unet, in_diffusers, in_process
from tests.tiny_sd import predict


@pytest.mark.parametrize("weights", [(0.6, 0.4), (1.0, 0.0), (0.3, 1.2)])
@pytest.mark.parametrize("format", [pytest.param("diffusers", marks=pytest.mark.slow), "kohya"])
def test_stacked_merged_and_in_process_agree(tiny_sd, adapter_files, tmp_path, weights, format):
    merged = tmp_path / "blend.safetensors"
    merge([str(file) for file in adapter_files], list(weights), str(merged), format=format)
    ours = in_process(tiny_sd, adapter_files, weights)
    stacked = in_diffusers(tiny_sd, adapter_files, weights)
    assert (ours - predict(base_unet(tiny_sd))).abs().max() > 1e-2
    assert torch.allclose(ours, stacked, atol=1e-4)
    assert torch.allclose(in_diffusers(tiny_sd, [merged], (1.0,)), stacked, atol=1e-4)


def test_a_merged_file_names_its_parents(adapter_files, tmp_path):
    merge([str(file) for file in adapter_files], [0.6, 0.4], str(tmp_path / "a.safetensors"))
    notes = read_adapter(tmp_path / "a.safetensors").metadata
    assert (notes["ss_network_dim"], notes["ss_network_alpha"], notes["method"]) == ("Dynamic", "6.0", "sum")
    assert '"name": "ink", "weight": 0.6' in notes["parents"]
    assert (notes["base"], notes["trigger"]) == ("tiny", "inkstyle, oilstyle")


def test_a_merged_file_is_an_adapter_again(tiny_sd, adapter_files, tmp_path):
    merge([str(file) for file in adapter_files], [0.6, 0.4], str(tmp_path / "a.safetensors"))
    again = in_process(tiny_sd, [tmp_path / "a.safetensors"], [1.0])
    assert torch.allclose(again, in_process(tiny_sd, adapter_files, (0.6, 0.4)), atol=1e-5)


@pytest.mark.parametrize("method", ["sum", "ties", "dare", "knots_ties", "tsv_m", "iso_c", "np_lora"])
def test_every_method_truncates_to_a_file(tiny_sd, adapter_files, tmp_path, method, capsys):
    path = tmp_path / "a.safetensors"
    merge([str(file) for file in adapter_files], [0.6, 0.4], str(path), method=method, rank=6)
    assert "of the blend's norm lie beyond rank 6" in capsys.readouterr().out
    whole, cut = in_process(tiny_sd, adapter_files, (0.6, 0.4), method=method), in_process(tiny_sd, [path], [1.0])
    exact = method not in ("ties", "dare")  # whose updates are of full rank
    assert torch.allclose(whole, cut, atol=1e-4) == exact


@pytest.mark.parametrize(
    ("weights", "options", "said"),
    [
        ([0.6], {}, "2 adapters and 1 weights"),
        ([0.0, 0.0], {}, "all weights are 0"),
        ([1.0, 1.0], {"method": "ties"}, "give the file a rank"),
        ([1.0, 1.0], {"rank": 0}, "rank is 0"),
        ([1.0, 1.0], {"density": 0.0}, "density is 0"),
    ],
)
def test_what_cannot_be_merged_is_refused(adapter_files, tmp_path, weights, options, said):
    with pytest.raises(InputError, match=said):
        merge([str(file) for file in adapter_files], weights, str(tmp_path / "a.safetensors"), **options)
    assert list(tmp_path.iterdir()) == []


def test_adapters_of_other_shapes_are_refused(tiny_sd, adapter_files):
    adapters = [read_adapter(file) for file in adapter_files]
    layer = next(iter(adapters[0].layers))
    adapters[0].layers[layer] = Factors(torch.zeros(7, 4), adapters[0].layers[layer].down)
    with pytest.raises(InputError, match="differ in the shape of"):
        blend(adapters, [1.0, 1.0])
    with pytest.raises(InputError, match="do not fit this base"), added(base_unet(tiny_sd), adapters[0].layers):
        pass


def test_the_unet_is_as_before_also_after_an_error(tiny_sd, adapter_files):
    unet = base_unet(tiny_sd)
    before = {name: (id(value), value.clone()) for name, value in unet.named_parameters()}
    modules = [id(module) for module in unet.modules()]
    updates = blend([read_adapter(file) for file in adapter_files], [0.6, 0.4])
    with pytest.raises(ZeroDivisionError), added(unet, updates):
        raise ZeroDivisionError
    assert [id(module) for module in unet.modules()] == modules
    for name, value in unet.named_parameters():
        assert id(value) == before[name][0]
        assert torch.equal(value, before[name][1])


def test_a_merged_file_never_replaces_its_parents_and_names_each_trigger_once(adapter_files, tmp_path):
    paths = [str(shutil.copy(file, tmp_path)) for file in adapter_files]
    before = Path(paths[0]).read_bytes()
    with pytest.raises(InputError, match="give output another name"):
        merge(paths, [0.6, 0.4], paths[0])
    with pytest.raises(InputError, match="is a folder"):
        merge(paths, [0.6, 0.4], str(tmp_path))
    assert Path(paths[0]).read_bytes() == before
    one, two = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    merge(paths, [0.6, 0.4], one)
    merge([one, paths[0]], [0.5, 0.5], two)
    assert read_adapter(two).metadata["trigger"] == "inkstyle, oilstyle"


def test_an_adapter_without_a_trigger_leaves_no_gap_in_the_others(adapter_files, tmp_path, capsys):
    files, none, one = (
        [str(file) for file in adapter_files],
        tmp_path / "none.safetensors",
        tmp_path / "one.safetensors",
    )
    merge(files, [0.6, 0.4], str(one), triggers=["", "zqx"])
    assert read_adapter(one).metadata["trigger"] == "zqx"
    assert "write 'zqx' into the prompt" in capsys.readouterr().out
    merge(files, [0.6, 0.4], str(none), triggers=["", ""])
    assert "trigger" not in read_adapter(none).metadata
    assert "into the prompt" not in capsys.readouterr().out
