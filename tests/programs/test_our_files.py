"""Every file that we write is applied by other programs at the right strength in every layer; the page says so."""

import json

import pytest

from stylelora.lora.factors import Layer
from stylelora.lora.write import write_lora
from tests.programs import a1111, ai_toolkit, comfyui, forge, huggingface, kohya, lycoris, onetrainer, table
from tests.programs.layers import differences, is_text, random_lora, shapes
from tests.tiny_sd import TINY_UNET

ONE = {"ranks": (3,), "alphas": (1.5,)}


def written(path, layers, **options):
    write_lora(
        path, {layer: Layer(parts.down, parts.up, parts.alpha) for layer, parts in layers.items()}, {}, **options
    )
    return path


@pytest.mark.parametrize("program", [comfyui, forge, a1111, kohya, lycoris, onetrainer, ai_toolkit])
@pytest.mark.parametrize("how", [ONE, {}])
def test_every_layer_is_found_under_kohyas_names(tmp_path, program, how):
    """All 282 layers of the UNet and all kinds of the text encoder; with ranks and alphas of each layer's own."""
    of = shapes()
    layers = random_lora(of, **how)
    if program is kohya:
        layers = {layer: parts for layer, parts in layers.items() if layer not in kohya.NOT_WRAPPED}
    if program in (onetrainer, ai_toolkit):  # they go on training, at one rank
        layers = random_lora(of, ranks=(3,), alphas=how.get("alphas", (1.0, 2.0, 4.0)))
    updates, left_out = program.apply(*huggingface.load(written(tmp_path / "x.safetensors", layers)), of)
    assert updates.keys() == layers.keys()
    assert not left_out
    assert max(differences(updates, layers).values()) < 1e-6


@pytest.mark.parametrize("names", ["kohya", "diffusers"])
def test_diffusers_finds_every_layer(tiny_sd, tmp_path, names):
    layers = random_lora(shapes(unet=TINY_UNET), ranks=(3,))
    updates = huggingface.in_diffusers(written(tmp_path / "x.safetensors", layers, names=names), tiny_sd)
    assert updates.keys() == layers.keys()
    assert max(differences(updates, layers).values()) < 1e-6


def test_the_header_names_what_diffusers_035_looks_up(tmp_path):
    """It fails with a KeyError where a LoRA of one rank leaves the patterns out."""
    layers = random_lora({layer: shape for layer, shape in shapes().items() if layer.startswith("mid_block")}, **ONE)
    _, header = huggingface.load(written(tmp_path / "x.safetensors", layers, names="diffusers"))
    config = json.loads(header["lora_adapter_metadata"])
    assert config["unet.rank_pattern"] == config["unet.alpha_pattern"] == {}
    assert config["unet.r"] == config["unet.lora_alpha"] == 3


def test_the_text_encoder_may_have_another_alpha_than_the_unet(tiny_sd, tmp_path):
    of = {layer: shape for layer, shape in shapes().items() if is_text(layer) or layer.startswith("down_blocks.0.res")}
    layers = {
        layer: type(parts)(parts.down, parts.up, 2.0 if is_text(layer) else 6.0)
        for layer, parts in random_lora(of).items()
    }
    updates = huggingface.in_diffusers(written(tmp_path / "x.safetensors", layers), tiny_sd)
    assert max(differences(updates, layers).values()) < 1e-6


def test_the_page_on_programs_says_what_they_make_of_files(tiny_sd, tmp_path):
    """If not: `python -m tests.programs.table`; and read what has changed."""
    rows = table.of_our_files(tiny_sd, tmp_path)
    assert table.page(rows, tmp_path) == table.PAGE.read_text(encoding="utf-8")
    columns = dict(zip(("kohya", "diffusers", "peft"), zip(*(row[1:] for row in rows), strict=True), strict=True))
    assert [cell.split(";")[0].split(" but")[0] for cell in columns["kohya"]] == ["exact"] * 8 + ["does not read files"]
    assert columns["diffusers"][7] == columns["peft"][8] == "exact"
    assert not any("wrong strength" in cell for row in rows for cell in row)
