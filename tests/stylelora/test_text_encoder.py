"""Layers of the text encoder: blended by the same algebra, and in force while prompts are encoded."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

from stylelora.base.conditioning import encode_texts
from stylelora.base.load import load_text_encoder, load_tokenizer, load_unet
from stylelora.diffusion.blend_while_sampling import Prompt, composite_terms, switch_order
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.diffusion.prediction_sums import Term, summed
from stylelora.diffusion.sample import walk
from stylelora.lora.blend import added, blend, check_fit
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.names import kohya_name
from stylelora.lora.read import read_adapter
from stylelora.lora.router import routed
from stylelora.records import InputError
from tests.runs import run_cli
from tests.tiny_sd import predict

SCHEDULER = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
WORDS = ["a red fox", "a small blue house"]
GUIDANCE, STEPS = 3.0, 3


def kohya_file(tiny_sd, path, seed, rank=3, trigger="ink"):
    """A file as kohya's trainer writes it with the text encoder, its default; alpha is half the rank."""
    generator, state = torch.Generator().manual_seed(seed), {}
    unet = {name: one for name, one in adaptable_modules(load_unet(tiny_sd)).items() if "attn" in name}
    text = {
        f"text_encoder.text_model.{name}": one for name, one in adaptable_modules(load_text_encoder(tiny_sd)).items()
    }
    for layer, module in {**unet, **text}.items():
        m, n = module.weight.shape
        state[f"{kohya_name(layer)}.lora_down.weight"] = torch.randn(rank, n, generator=generator) / n**0.5
        state[f"{kohya_name(layer)}.lora_up.weight"] = 0.3 * torch.randn(m, rank, generator=generator)
        state[f"{kohya_name(layer)}.alpha"] = torch.tensor(rank / 2)
    save_file(state, path, metadata={"modelspec.trigger_phrase": trigger, "ss_sd_model_name": "model.safetensors"})
    return path


@pytest.fixture(scope="module")
def files(tiny_sd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kohya")
    return [
        kohya_file(tiny_sd, folder / f"{name}.safetensors", i, 2 + i, name) for i, name in enumerate(("ink", "oil"))
    ]


@pytest.fixture(scope="module")
def adapters(files):
    return [read_adapter(file) for file in files]


@pytest.fixture(scope="module")
def base(tiny_sd):
    return load_unet(tiny_sd), load_text_encoder(tiny_sd), load_tokenizer(tiny_sd)


@pytest.fixture
def embed(base):
    def embed(texts, updates):
        with added(base[1], updates):
            return encode_texts(base[2], base[1], texts)

    return embed


@pytest.fixture(scope="module")
def start():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(9))


def test_kohyas_names_of_the_text_encoder_are_found_whole(adapters, base):
    layers = adaptable_modules(base[1])
    for adapter in adapters:
        assert {name.removeprefix("text_encoder.text_model.") for name in adapter.text} == set(layers)
        assert adapter.unet.keys() & adapter.text.keys() == set()
        assert len(adapter.unet) + len(adapter.text) == len(adapter.layers)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.6, 0.4)])
def test_texts_are_encoded_as_diffusers_does(tiny_sd, files, adapters, embed, weights):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    plain = pipeline.encode_prompt(WORDS, "cpu", 1, False)[0]
    for file in files:
        pipeline.load_lora_weights(file, adapter_name=file.stem)
    pipeline.set_adapters([file.stem for file in files], list(weights))
    theirs = pipeline.encode_prompt(WORDS, "cpu", 1, False)[0]
    updates = {k: v for k, v in blend(adapters, weights).items() if k.startswith("text_encoder.")}
    ours = embed(WORDS, updates).text
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-2)
    assert torch.allclose(embed(WORDS, {}).text, plain, atol=1e-6), "the encoder is as before"


def by_hand(base, start, pairs, plan):
    """Denoise with adapters side by side; `plan` maps a call to its terms."""
    with routed(base[0], [adapter.unet for adapter, _ in pairs]) as router:
        return walk(base[0], SCHEDULER, start, STEPS, summed(base[0], router, plan))


@pytest.mark.parametrize("method", ["composite", "switch", "k_lora", "sum"])
def test_each_adapter_has_its_own_text_encoder_where_it_predicts_alone(base, adapters, embed, start, method):
    condition = Condition(method, (0.6, 0.4), STEPS, GUIDANCE)
    got = sample_condition(base[0], SCHEDULER, Blends(adapters), condition, start, WORDS, embed)
    own = [
        Prompt(embed([f"{one.metadata['trigger']}, {word}" for word in WORDS], one.text), embed([""], one.text))
        for one in adapters
    ]
    pairs = list(zip(adapters, own, strict=True))
    if method == "composite":
        terms = composite_terms((0.6, 0.4), own, own[0], GUIDANCE)
        want = by_hand(base, start, pairs, lambda _: terms)
    elif method == "switch":
        order = switch_order((0.6, 0.4), STEPS)

        def plan(call):
            i = order[call]
            return [Term(i, own[i].text, GUIDANCE), Term(i, own[i].empty, 1 - GUIDANCE)]

        want = by_hand(base, start, pairs, plan)
    else:
        both = {key: value for key, value in blend(adapters, (0.6, 0.4)).items() if key.startswith("text_encoder.")}
        seen = []

        def watch(texts, updates):
            seen.append(updates)
            return embed(texts, updates)

        again = sample_condition(base[0], SCHEDULER, Blends(adapters), condition, start, WORDS, watch)
        assert torch.equal(again, got)
        assert seen[0].keys() == both.keys()
        assert all(torch.allclose(seen[0][key].dense(), both[key].dense(), atol=1e-6) for key in both)
        return
    assert torch.allclose(got, want, atol=1e-5)
    for adapter in adapters:  # without their text encoders the result is another
        assert adapter.text
    plain = [type(one)(one.name, one.unet, one.inputs, "", one.metadata) for one in adapters]
    other = sample_condition(base[0], SCHEDULER, Blends(plain), condition, start, WORDS, embed)
    assert not torch.allclose(got, other, atol=1e-2)


def test_layers_that_the_text_encoder_lacks_are_refused(base, adapters):
    strange = {"text_encoder.text_model.encoder.layers.7.mlp.fc1": next(iter(adapters[0].text.values()))}
    with pytest.raises(InputError, match=r"do not fit this base: text_encoder\.text_model\.encoder\.layers\.7"):
        check_fit(base[1], strange)


def test_a_foreign_lora_goes_through_predict_merge_and_convert_to_diffusers(tiny_sd, files, adapter_files, tmp_path):
    ours, foreign = adapter_files[0], files[1]
    words = ["--model.num_inference_steps=2", "--data.prompts=[a cat]", "--trainer.enable_progress_bar=false"]
    code, said = run_cli(
        ["predict", "--model=lightning_modules.ComposedStyles", f"--model.base={tiny_sd}", "--data=datamodules.Prompts",
         f"--model.adapters=[{foreign}, {ours}]", "--model.weights=[[1, 0], [0.6, 0.4]]", "--trainer.accelerator=cpu",
         f"--trainer.default_root_dir={tmp_path / 'run'}", *words]
    )  # fmt: skip
    assert code == 0, said
    assert len(list((tmp_path / "run").rglob("*.png"))) >= 2
    merged, converted = tmp_path / "merged.safetensors", tmp_path / "converted.safetensors"
    weights = ["--weights", "0.6", "0.4", "--output", str(merged)]
    code, said = run_cli(["merge", "--adapters", str(foreign), str(ours), *weights])
    assert code == 0, said
    code, said = run_cli(["convert", str(merged), "--format", "diffusers", "--output", str(converted)])
    assert code == 0, said
    assert "ss_network_dim" not in read_adapter(converted).metadata  # it described kohya's tensors
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.load_lora_weights(converted)
    updates = blend([read_adapter(foreign), read_adapter(ours)], (0.6, 0.4))
    unet, encoder, tokenizer = load_unet(tiny_sd), load_text_encoder(tiny_sd), load_tokenizer(tiny_sd)
    of_text = {key: value for key, value in updates.items() if key.startswith("text_encoder.")}
    of_unet = {key: value for key, value in updates.items() if key not in of_text}
    with added(unet, of_unet), added(encoder, of_text):
        assert torch.allclose(predict(pipeline.unet.eval()), predict(unet), atol=1e-5)
        theirs = pipeline.encode_prompt(WORDS, "cpu", 1, False)[0]
        assert torch.allclose(theirs, encode_texts(tokenizer, encoder, WORDS).text, atol=1e-5)
    parents = json.loads(read_adapter(merged).metadata["parents"])
    assert parents[0]["ss_sd_model_name"] == "model.safetensors"
