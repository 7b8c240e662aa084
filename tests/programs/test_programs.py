"""The restated programs: each applies what it writes itself, and the traps that files between them run into."""

from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from tests.programs import a1111, ai_toolkit, comfyui, forge, huggingface, kohya, lycoris, onetrainer
from tests.programs.layers import (
    LDM,
    Refused,
    differences,
    every_kind,
    folded,
    is_text,
    random_lora,
    real_shapes,
    shapes,
)

READERS = (kohya, comfyui, forge, a1111, lycoris, onetrainer, ai_toolkit)


@pytest.fixture(scope="module")
def of():
    """Shapes of the layers."""
    return shapes()


@pytest.fixture(scope="module")
def mixed(of):
    return random_lora(of)


@pytest.fixture(scope="module")
def one(of):
    """A LoRA of one rank and one alpha."""
    return random_lora(of, ranks=(3,), alphas=(1.5,))


def exact(updates, layers):
    assert updates.keys() == layers.keys()
    assert max(differences(updates, layers).values()) < 1e-6


def test_the_frozen_list_has_every_layer_of_the_unet(of):
    assert [layer for layer in of if not is_text(layer)] == list(LDM)
    assert len(LDM) == len(set(LDM.values())) == 282
    assert list(real_shapes())[:282] == list(LDM)
    assert len(real_shapes()) == 282 + 72


#: Program, what it writes, whether it writes alphas, and whether it reads layers whose ranks differ.
WRITERS = {
    "kohya": (kohya, kohya.write, True, True),
    "comfyui": (comfyui, comfyui.write, False, True),
    "ai-toolkit": (ai_toolkit, ai_toolkit.write, True, False),
    "lycoris": (lycoris, lycoris.write, True, True),
}
WRITERS |= {
    form: (onetrainer, partial(onetrainer.write, form=form), True, False)
    for form in onetrainer.FORMATS
    if form != "ORIGINAL_LORA"
}


@pytest.mark.parametrize("case", WRITERS)
def test_a_program_applies_what_it_writes(case, of, mixed, one):
    program, write, alphas, ranks = WRITERS[case]
    layers = mixed if ranks else one
    updates, left_out = program.apply(*write(layers, dtype=torch.float32), of)
    layers = layers if alphas else folded(layers)
    missing = kohya.NOT_WRAPPED if program is kohya else ()
    exact(updates, {layer: parts for layer, parts in layers.items() if layer not in missing})
    assert {key.partition(".")[0] for key in left_out} == {kohya.name(layer) for layer in missing}


def test_onetrainers_file_without_prefix_is_of_the_unet_alone(of, one):
    unet = {layer: parts for layer, parts in one.items() if not is_text(layer)}
    exact(onetrainer.apply(*onetrainer.write(unet, "ORIGINAL_LORA"), of)[0], unet)
    with pytest.raises(Refused):
        onetrainer.write(one, "ORIGINAL_LORA")
    assert comfyui.apply(*onetrainer.write(unet, "ORIGINAL_LORA"), of)[0] == {}


def test_a_numbered_text_encoder_is_unknown_to_kohya_and_lycoris(of, one):
    tensors, header = kohya.write(one, prefix="lora_te1")
    for program in (comfyui, forge, a1111, onetrainer):
        exact(program.apply(tensors, header, of)[0], one)
    for program in (kohya, lycoris, ai_toolkit):
        assert not any(map(is_text, program.apply(tensors, header, of)[0]))


def test_names_of_the_checkpoint_are_known_to_those_who_draw_with_it(of, one):
    tensors = kohya.renamed(one, kohya.in_ldm_names)
    for program in (comfyui, forge, a1111, ai_toolkit):
        exact(program.apply(tensors, {}, of)[0], one)
    for program in (kohya, lycoris):
        assert all(map(is_text, program.apply(tensors, {}, of)[0]))
    with pytest.raises(Refused):
        onetrainer.apply(tensors, {}, of)


@pytest.mark.parametrize("program", READERS)
def test_a_missing_alpha_is_the_rank(program, of, one):
    tensors = {key: value for key, value in kohya.write(one)[0].items() if not key.endswith(".alpha")}
    if program is lycoris:
        with pytest.raises(Refused, match="alpha"):
            program.apply(tensors, {}, of)
    else:
        updates = program.apply(tensors, {}, of)[0]
        exact(updates, {layer: parts for layer, parts in folded(one).items() if layer in updates})
        assert len(updates) >= len(one) - 4


@pytest.mark.parametrize("program", READERS)
def test_alpha_may_have_any_dtype(program, of, one):
    layers = {layer: parts for layer, parts in one.items() if layer not in kohya.NOT_WRAPPED}
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        tensors = kohya.write(layers)[0]
        tensors = {key: value.to(dtype) if key.endswith(".alpha") else value for key, value in tensors.items()}
        exact(program.apply(tensors, {}, of)[0], layers)


def test_diffusers_names_are_read_by_parts_refused_or_passed_over(of, one):
    tensors, header = onetrainer.write(one, "DIFFUSERS_LORA")
    updates, left_out = comfyui.apply(tensors, header, of)
    assert updates.keys() == {layer for layer in one if ".to_" not in layer}
    assert all(".to_" in key for key in left_out)
    with pytest.raises(Refused, match="mismatch"):
        forge.apply(tensors, header, of)
    for program in (a1111, kohya, lycoris, ai_toolkit):
        assert program.apply(tensors, header, of)[0] == {}


def test_forge_loads_a_file_with_twelve_strange_keys_and_none_with_thirteen(of, one):
    tensors = kohya.write(one)[0]
    strange = {f"stranger.{index}": torch.ones(1) for index in range(13)}
    assert len(forge.apply(tensors | dict(list(strange.items())[:12]), {}, of)[0]) == len(one)
    with pytest.raises(Refused):
        forge.apply(tensors | strange, {}, of)


def test_diffusers_names_of_before_peft_are_read_by_comfyui_and_forge(of, mixed):
    tensors, header = huggingface.write_old(mixed)
    for program in (comfyui, forge):
        exact(program.apply(tensors, header, of)[0], folded(mixed))


@pytest.mark.parametrize("linear", [False, True])
def test_projections_are_convolutions_in_sd_1_and_linear_in_sd_2(linear):
    of = shapes(use_linear_projection=linear)
    layers = random_lora(of, ranks=(3,), alphas=(1.5,))
    assert layers["mid_block.attentions.0.proj_in"].down.ndim == (2 if linear else 4)
    for program in READERS:
        updates = program.apply(*kohya.write(layers), of)[0]
        exact(updates, {layer: parts for layer, parts in layers.items() if layer in updates})
    # a matrix for a 1x1 convolution: those who draw take it, those who train do not
    name = "mid_block.attentions.0.proj_in"
    layers = {name: layers[name]}
    other = shapes(use_linear_projection=not linear)
    for program in (comfyui, forge, a1111):
        exact(program.apply(*kohya.write(layers), other)[0], layers)
    for program in (kohya, lycoris, onetrainer):
        with pytest.raises(Refused):
            program.apply(*kohya.write(layers), other)


def in_diffusers(tensors, header, checkpoint, folder):
    return huggingface.in_diffusers(huggingface.save(folder / "x.safetensors", tensors, header), checkpoint)


@pytest.mark.parametrize("ranks", [(3,), (2, 3, 4)])
def test_diffusers_reads_kohyas_names_with_one_alpha(tiny_sd, tmp_path, ranks, of):
    layers = every_kind(random_lora(of, ranks=ranks, alphas=(1.5,)))
    exact(in_diffusers(*kohya.write(layers), tiny_sd, tmp_path), layers)


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys")
def test_diffusers_loses_alphas_that_differ(tiny_sd, tmp_path, mixed):
    """Once this fails, the page on programs and the writer may change: of attention and text layers they are lost."""
    layers = every_kind(mixed)
    wrong = differences(in_diffusers(*kohya.write(layers), tiny_sd, tmp_path), layers)
    lost = {layer for layer, difference in wrong.items() if difference > 1e-6}
    assert lost and all(".to_" in layer or is_text(layer) for layer in lost)


@pytest.mark.parametrize("attention", ["processor.{}_lora", "{}.lora"])
def test_diffusers_reads_its_older_names(tiny_sd, tmp_path, attention, mixed):
    layers = every_kind(mixed)
    exact(in_diffusers(*huggingface.write_old(layers, attention), tiny_sd, tmp_path), folded(layers))


@pytest.mark.parametrize("kinds", [("q_proj", "v_proj"), ("q_proj", "v_proj", "fc1")])
def test_diffusers_needs_an_out_proj_in_kohyas_text_encoder(tiny_sd, tmp_path, kinds, one):
    layers = {layer: parts for layer, parts in one.items() if is_text(layer) and layer.endswith(kinds)}
    try:
        assert in_diffusers(*kohya.write(layers), tiny_sd, tmp_path).keys() < layers.keys()
    except Refused as error:
        assert "infer state dict type" in str(error)


def test_diffusers_reads_scripts_with_and_without_a_header(tiny_sd, tmp_path, mixed):
    layers, file = every_kind(mixed), tmp_path / "pytorch_lora_weights.safetensors"
    huggingface.write_pipeline(layers, tmp_path, text_prefix=huggingface.TEXT)
    exact(huggingface.in_diffusers(file, tiny_sd), layers)
    huggingface.write_pipeline(layers, tmp_path, header=False)
    exact(huggingface.in_diffusers(file, tiny_sd), folded(layers))


def test_peft_reads_its_folders(tiny_sd, tmp_path, mixed):
    some = every_kind(mixed)
    unet = {layer: parts for layer, parts in some.items() if not is_text(layer)}
    text = {layer: parts for layer, parts in some.items() if is_text(layer)}
    for layers, prefix, part, kind in (
        (unet, "", "unet", UNet2DConditionModel),
        (text, huggingface.TEXT, "text_encoder", CLIPTextModel),
    ):
        load = lambda kind=kind, part=part: kind.from_pretrained(tiny_sd, subfolder=part)  # noqa: E731
        own = {layer.removeprefix(prefix): parts for layer, parts in layers.items()}
        huggingface.write_peft(own, tmp_path / part, load())
        exact(huggingface.in_peft(tmp_path / part, load(), prefix), layers)
