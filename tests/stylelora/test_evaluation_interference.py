"""The report on two adapters."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from stylelora.evaluation.interference import TIMESTEPS, Probe, by_block, interference
from stylelora.lora.read import read_adapter
from stylelora.records import InputError


def words(files):
    return [str(file) for file in files]


@pytest.mark.slow
def test_the_report_names_every_block_and_draws_it_among_the_results(
    tiny_sd, adapter_files, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    interference(words(adapter_files), [0.6, 0.4], base=str(tiny_sd))
    said = capsys.readouterr().out
    blocks = by_block(*(read_adapter(file) for file in adapter_files))
    assert {name.split(".")[0] for name in blocks} == {"down_blocks", "mid_block", "up_blocks"}
    assert all(f"| {name} |" in said for name in blocks)
    pictures = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")]
    assert pictures == ["runs/interference/ink+oil.png"]
    with Image.open(pictures[0]) as image:
        assert image.height > 22 * len(blocks)


@pytest.mark.slow
def test_the_interaction_ratio_halves_with_the_strength(tiny_sd, adapter_files):
    adapters = [read_adapter(file) for file in adapter_files]
    probe, ratios = Probe(str(tiny_sd), adapters), []
    for strength in (0.2, 0.1, 0.05):
        found = [probe.interaction(adapters, [0.6 * strength, 0.4 * strength], (t,)) for t in TIMESTEPS]
        ratios.append(torch.tensor([ratio for _, ratio in found]))
    assert torch.allclose(ratios[0] / ratios[1], torch.tensor(2.0), rtol=0.15)
    assert torch.allclose(ratios[1] / ratios[2], torch.tensor(2.0), rtol=0.15)


def test_an_adapter_and_itself_do_not_interact(tiny_sd, adapter_files):
    adapter = read_adapter(adapter_files[0])
    same = [adapter, type(adapter)("again", adapter.layers, adapter.inputs, "", adapter.metadata)]
    assert Probe(str(tiny_sd), same).interaction(same, [0.6, 0.4], TIMESTEPS)[1] < 1e-4


def test_effects_are_those_of_the_dense_updates_and_a_block_of_nothing_has_none(tiny_sd, adapter_files):
    adapter = read_adapter(adapter_files[0])
    nothing = replace(adapter, name="nothing", layers={n: u.scaled(0) for n, u in adapter.layers.items()})
    probe = Probe(str(tiny_sd), [adapter])
    (effect, none), _ = probe.interaction([adapter, nothing], [0.5, 0.5], (400,))
    plain = probe.predicted(400, {})
    for layer, update in adapter.layers.items():
        probe.unet.get_submodule(layer).weight.data += update.dense()
    assert effect == pytest.approx(float((probe.predicted(400, {}) - plain).norm() / plain.norm()), rel=1e-4)
    assert none == 0


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0], 1.0])
def test_two_adapters_are_needed(tiny_sd, adapter_files, tmp_path, weights):
    with pytest.raises(InputError):
        interference(words(adapter_files), weights, base=str(tiny_sd), output=str(tmp_path / "a.png"))
    assert list(tmp_path.iterdir()) == []
