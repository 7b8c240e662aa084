"""The benchmark measures equal work, counts what can be counted by hand, and says what it found."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.speed import __main__ as program
from benchmarks.speed import launches, table, training
from benchmarks.speed.bases import Parts
from benchmarks.speed.clocks import Settings, operations
from benchmarks.speed.launches import Launches
from benchmarks.speed.loops import DIFFUSERS, KOHYA, Loop, Options
from benchmarks.speed.ours import Ours
from benchmarks.speed.pictures import Captioned, make_pictures
from stylelora.base.load import size_step
from stylelora.data.cache import Cache
from stylelora.diffusion import noise
from tests.tiny_sd import SMALLEST_UNET, build_tiny_sd, disturb

ROOT = Path(__file__).parents[1]
SETTINGS = Settings("cpu", "fp32", batch=2, resolution=64, rank=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_sd(tmp_path_factory.mktemp("base"), unet=SMALLEST_UNET)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), 6, 64)  # as large as they are trained at, so uncropped


@pytest.fixture(scope="module")
def parts(base):
    return Parts.of(str(base))


@pytest.fixture(scope="module")
def ours(base, root, tmp_path_factory):
    """Our module with an adapter that has an effect, two of the pictures, our loss, and its gradients by layer."""
    made = Ours(str(base), root, SETTINGS, tmp_path_factory.mktemp("cache"), caption_dropout=0.0)
    disturb(made.module.unet)
    dataset = made.data(1).dataset
    dataset.scan()
    dataset.choose_sizes(size_step(base))
    pictures = [dataset.train[dataset.samples[row]] for row in (0, 1)]
    captions = [picture.text for picture in pictures]
    batch = dataset.batch(Cache(made.cache, base, "cpu"), "train", [0, 1], [False, False], captions)
    loss = made.module.training_step(batch, 0)
    loss.backward()
    layers = {name: one for name, one in made.module.unet.named_modules() if hasattr(one, "lora_A")}
    factors = {name: (one.lora_A["style"].weight, one.lora_B["style"].weight) for name, one in layers.items()}
    return made.module.seed, [int(picture.path.stem) for picture in pictures], loss.detach(), factors


SAME = {
    "diffusers": DIFFUSERS,
    "kohya": replace(KOHYA, cached_latents=False),  # a cache has one draw of each latent
    "without sdpa": Options(sdpa=False),
    "channels last": Options(channels_last=True),
}


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("name", SAME)
def test_public_loops_compute_our_loss_and_gradients_at_equal_noise(name, ours, parts, root):
    seed, numbers, expected, factors = ours
    loop = Loop(parts, root, SETTINGS, SAME[name])
    assert loop.layers.keys() == factors.keys() and len(factors) >= 16
    for layer, pair in loop.layers.items():
        for own, other in zip(pair, factors[layer], strict=True):
            own.data.copy_(other)
    keys = [(seed, 0, row) for row in (0, 1)]
    captioned = Captioned(root, parts.tokenizer, SETTINGS.resolution)
    pixels = torch.stack([captioned.pixels(number) for number in numbers])
    tokens = torch.stack([captioned.tokens(number) for number in numbers])
    shape = (4, 8, 8)
    latents = loop.encode(pixels, lambda _: noise.normal([("posterior", *key) for key in keys], shape))
    draw = noise.normal([("noise", *key) for key in keys], shape)
    timesteps = noise.timesteps([("timestep", *key) for key in keys], 1000)
    loss = loop.loss(latents, draw, timesteps, loop.embed(tokens))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    for layer, pair in loop.layers.items():
        for own, other in zip(pair, factors[layer], strict=True):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-7)


def test_the_loss_depends_on_what_is_compared(ours, parts, root):
    """Another adapter, and other noise, are seen in the loss, so its being equal says something."""
    factors, least = ours[-1], 1e-4 * ours[-2].item()  # ten times the tolerance of the test above
    torch.manual_seed(0)
    loop = Loop(parts, root, SETTINGS)
    given = loop.given(next(loop.batches))
    alone = loop.loss(**given).item()
    for layer, pair in loop.layers.items():
        for own, other in zip(pair, factors[layer], strict=True):
            own.data.copy_(other)
    assert abs(loop.loss(**given).item() - alone) > least
    assert abs(loop.loss(**given | {"noise": torch.randn_like(given["noise"])}).item() - alone) > least


def test_operations_are_those_counted_by_hand():
    x, w = torch.randn(5, 7, requires_grad=True), torch.randn(7, 11, requires_grad=True)
    assert operations(lambda: x @ w) == 2 * 5 * 7 * 11
    assert operations(lambda: (x @ w).sum().backward()) == 3 * 2 * 5 * 7 * 11  # and the gradients of both
    picture, kernel = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    assert operations(lambda: F.conv2d(picture, kernel, padding=1)) == 2 * (2 * 8 * 8 * 4) * (3 * 3 * 3)
    q = torch.randn(1, 2, 10, 6)
    assert operations(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 10 * 10 * 6)


def test_a_step_takes_the_operations_of_its_adapters_besides(parts, root):
    counted = {}
    for rank in (2, 4, 6):
        loop = Loop(parts, root, replace(SETTINGS, batch=1, rank=rank))
        given = loop.given(next(loop.batches))
        counted[rank] = operations(lambda loop=loop, given=given: loop.loss(**given).backward())
    assert counted[6] - counted[4] == counted[4] - counted[2] > 0


def test_launches_are_what_computes_or_copies():
    x, w = torch.randn(4, 6), torch.randn(6, 3)
    with Launches() as mode:
        y = (x @ w).view(2, 6).T.detach()
        torch.empty_like(y)
        torch._foreach_add_([x, w], 1.0)
        y.to(torch.bfloat16)
    assert mode.count == {"mm": 1, "_foreach_add_": 1, "_to_copy": 1}


def test_a_step_of_ours_in_half_precision_launches_least(base, tmp_path):
    bench, found = training.Bench(str(base), tmp_path, SETTINGS, 1, float("inf")), []
    launches.launches(bench, lambda some: found.__setitem__(slice(None), some))
    half, whole = (one["operations"] for one in found)
    for name in ("diffusers", "kohya"):
        assert half["ours"]["all"] < 0.65 * half[name]["all"] and whole["ours"]["all"] < 0.9 * whole[name]["all"]
        assert half[name]["casts"] > 100 > 20 > half["ours"]["casts"] > 0
    text = table.launches(found, {})
    assert f"| bf16, this program | {half['ours']['all']} | {half['ours']['casts']} | 1.00 |" in text


def test_loops_take_turns_and_every_block_counts(base, parts, root, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BLOCK", (0.0, 2, 2))
    order = []
    loops = {name: Loop(parts, root, SETTINGS, options) for name, options in (("A", DIFFUSERS), ("B", KOHYA))}
    for name, loop in loops.items():
        run = loop.run
        monkeypatch.setattr(loop, "run", lambda steps, name=name, run=run: order.append(name) or run(steps))
    mine = Ours(str(base), root, SETTINGS, tmp_path)
    step = mine.module.training_step
    monkeypatch.setattr(mine.module, "training_step", lambda *args: order.append("O") or step(*args))
    before = {name: [one.clone() for one in loop.parameters] for name, loop in loops.items()}
    taken = training.interleaved(loops, 2, mine)
    assert {name: len(values) for name, values in taken.items()} == {"A": 2, "B": 2, "ours": 2}
    assert all(value > 0 for values in taken.values() for value in values)
    assert "".join(order) == "ABAB" + "OOO" + "AB" + "OO" + "AB" + "OO" + "AB"
    for name, loop in loops.items():  # they are trained
        assert any(not torch.equal(own, old) for own, old in zip(loop.parameters, before[name], strict=True))
    assert set(loops["A"].measure_phases(1)) == set(table.PHASES)
    assert mine.tf32 == [False, False]
    assert set(mine.phases(2)) == set(table.PHASES) - {"encoding"}


def test_cached_loops_give_what_was_encoded(parts, root):
    torch.manual_seed(0)
    cached = Loop(parts, root, SETTINGS, training.CACHED)
    assert not hasattr(cached, "vae") and not hasattr(cached, "text_encoder")
    batch = next(cached.batches)
    assert batch["latents"].shape == (2, 4, 8, 8) and batch["text"].shape == (2, 77, 32)
    drawn = replace(training.CACHED, keyed=True)
    cached.options = drawn
    first, second = (cached.given(batch)["noise"] for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])


RESULT = {
    "base": "mini",
    "date": "2026-01-02",
    "machine": {"device": "a card", "torch": "2"},
    "errors": {"sampling": "Traceback\nValueError: no"},
    "sections": {
        "ceilings": {"fp32": {"matrix product": 2e12, "convolution": 1e12}},
        "operations": {"step": 1e11, "picture": 1e9, "caption": 1e9},
        "training": [
            {
                "settings": SETTINGS.record(),
                "seconds": {"ours": [0.2, 0.4, 0.25], "diffusers": [0.4, 0.6, 0.5], "kohya": [0.2, 0.4, 0.3]},
                "phases": {name: {"forward": 0.1, "data": 0.01} for name in table.NAMES},
                "tf32": [False, True],
            }
        ],
    },
}


def test_the_table_says_medians_spreads_ratios_and_shares():
    text = table.whole(RESULT)
    assert "## mini on a card, 2026-01-02" in text
    assert "| this program | 250.0 (200.0 to 400.0) | 8.00 |  | 40% | 10.0 |" in text  # 2 * 1e11 / 0.25 / 2e12
    assert "| as diffusers' script | 500.0 (400.0 to 600.0) | 4.00 | 2.00 (1.50 to 2.00) | 20% |" in text
    assert "| fp32 | 2.00 | 1.00 |" in text
    assert "failed: ValueError: no" in text
    assert "so not equal" in text  # ours computed in TF32 where the others did not


def test_the_readme_shows_the_results_that_are_kept():
    files = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    shown = (ROOT / "benchmarks" / "README.md").read_text().replace("\n#### ", "\n### ").replace("\n### sd", "\n## sd")
    for file in files:
        assert table.whole(json.loads(file.read_text())) in shown.replace("\n### mini", "\n## mini"), file.name
    assert files


def test_a_section_that_fails_leaves_the_others_their_numbers(base, tmp_path, monkeypatch, capsys):
    def fail(bench, save):
        save({"matrix product": 1.0})
        raise ValueError("no such card")

    monkeypatch.setattr(program, "SECTIONS", {"ceilings": fail, "operations": training.work})
    out = tmp_path / "speed.json"
    words = ["--base", str(base), "--resolution", "64", "--device", "cpu", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["speed", *words, "--output", str(out), "--only", "ceilings,operations"])
    monkeypatch.setattr(table, "RENDERERS", table.RENDERERS | {"ceilings": lambda found, result: "some"})
    program.main()
    result = json.loads(out.read_text())
    assert "no such card" in result["errors"]["ceilings"] and result["sections"]["operations"]["step"] > 0
    assert "no such card" in capsys.readouterr().out


def test_the_usual_sections_suit_base_and_device():
    assert "run" in program.usual("mini", "cpu") and "compiled" not in program.usual("mini", "cpu")
    assert "run" not in program.usual("sd15", "cuda") and "counted" in program.usual("sd15", "cpu")
    assert set(program.SECTIONS) == set(table.RENDERERS)
