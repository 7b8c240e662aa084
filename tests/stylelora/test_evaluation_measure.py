"""From similarities to attainments, tests and sweeps, on made-up pictures whose answer is known."""

import numpy as np
import pytest
import torch

from stylelora.data.images import to_pil
from stylelora.evaluation import measure_style as of_styles
from stylelora.evaluation.measure_all import measure_all
from stylelora.evaluation.measure_blends import measure_blends, measure_response
from stylelora.evaluation.measure_skill import measure_skill
from stylelora.evaluation.measurements import Measurements
from stylelora.evaluation.page import page
from stylelora.evaluation.pictures import MadePictures, StylePictures
from stylelora.evaluation.summary import cell, main_table, markdown, summary
from stylelora.evaluation.vectors import AVERAGE, CUT, in_batches, scaled
from stylelora.records import Estimate

PROMPTS, SEEDS = 12, 2
AMOUNTS = {"base": (0, 0), "a 1": (1, 0), "b 1": (0, 1)}
AMOUNTS |= {f"a {a} + b {b}": (a, b) for a, b in ((0.7, 0.3), (0.5, 0.5), (0.4, 0.6))}


def rows():
    found = []
    for place in range(PROMPTS * SEEDS):
        for number, (condition, weights) in enumerate([*AMOUNTS.items(), *list(AMOUNTS.items())[1:]]):
            trigger = number < len(AMOUNTS)
            row = {
                "condition": condition if trigger else f"{condition}, no trigger",
                "trigger": trigger,
                "method": "sum",
                "strength": 1.0,
            }
            row |= {"weights": list(weights), "adapters": {"a": "", "b": ""}, "seed": place % SEEDS}
            row |= {"content": f"thing {place // SEEDS}", "prompt": f"astyle, thing {place // SEEDS}"}
            found.append(row | {"index": (place, number), "file_name": f"{place}-{number}.png"})
    return found


@pytest.fixture
def found(tmp_path):
    return Measurements(MadePictures.of_rows(rows(), {"a": "ink", "b": "oil"}, tmp_path))


def measure_style(found, judge, near):
    """Styles, and then blends on their scales."""
    scales = of_styles.measure_style(found, judge, near)
    measure_blends(found, judge, near, scales)
    return scales


def metrics(found):
    return {str(metric): metric for metric in found.metrics}


def endpoints(found):
    return {str(test): test for test in found.tests}


def similarities(shown, noise=0.02, seed=0):
    """Base 0.2, and what a condition shows of each style scaled to 0.5 and 0.1; without trigger a tenth of it."""
    draw = np.random.default_rng(seed)
    common = draw.normal(0, 0.02, (2, PROMPTS * SEEDS))  # what a prompt and seed do to all conditions
    found = {}
    for condition, amounts in shown.items():
        for name, factor in ((condition, 1.0), (f"{condition}, no trigger", 0.1)):
            found[name] = {
                style: 0.2 + common[i] + scale * factor * amounts[i] + draw.normal(0, noise, PROMPTS * SEEDS) * scale
                for i, (style, scale) in enumerate((("ink", 0.5), ("oil", 0.1)))
            }
    for blend in list(shown)[3:]:
        (a, _), (_, b) = shown["a 1"], shown["b 1"]
        share = AMOUNTS[blend][0]
        for name, of in ((AVERAGE, min(0.3, share)), (CUT, 0.0)):
            found[blend + name] = {"ink": 0.2 + common[0] + 0.5 * of * a, "oil": 0.2 + common[1] + 0.1 * of * b}
    return found


def test_conditions_are_sorted_by_name_and_styles(found):
    assert [condition.name for condition in found.pictures.conditions] == list(AMOUNTS)
    assert found.pictures.untriggered.keys() == AMOUNTS.keys() - {"base"}
    assert found.pictures.alone("oil").name == "b 1"
    assert [one.name for one in found.pictures.blends()[0]] == ["a 0.7 + b 0.3", "a 1", "b 1"]


def test_attainment_leak_and_both_score_are_what_was_put_in(found):
    measure_style(found, "e", similarities(AMOUNTS))
    for style, i in (("ink", 0), ("oil", 1)):
        for condition, amounts in AMOUNTS.items():
            if condition != "base":
                metric = metrics(found)[f"{condition}: attainment[e]/{style}"]
                assert metric.value == pytest.approx(amounts[i], abs=0.03)
                assert metric.ci_low < metric.value < metric.ci_high or amounts[i] == 1  # the end of the scale
    assert metrics(found)["a 1: attainment_without_trigger[e]/ink"].value == pytest.approx(0.1, abs=0.03)
    assert metrics(found)["a 1: trigger_effect[e]/ink"].value == pytest.approx(0.9, abs=0.03)
    blend = "a 0.7 + b 0.3"
    both, flip = (metrics(found)[f"{blend}: {name}[e]"].value for name in ("both_score", "coin_flip"))
    assert both > flip + 0.2  # all pictures have both, though the prompts' own spread lowers the minimum
    assert endpoints(found)[f"{blend}: both_above_coin_flip[e]"].p_holm < 0.05
    p_values = [test.p_value for test in endpoints(found).values()]
    assert all(test.p_holm >= test.p_value for test in endpoints(found).values())
    assert len(p_values) == 5  # two adapters, three blends: declared, no more
    assert f"| {blend} |" in summary(found)


def test_a_coin_flip_in_disguise_is_not_taken_for_a_blend(found):
    near = similarities(AMOUNTS)
    heads = np.arange(PROMPTS * SEEDS) * 7 % 10 < 7
    near["a 0.7 + b 0.3"] = {s: np.where(heads, near["a 1"][s], near["b 1"][s]) for s in ("ink", "oil")}
    measure_style(found, "e", near)
    assert endpoints(found)["a 0.7 + b 0.3: both_above_coin_flip[e]"].p_holm > 0.05


def test_a_style_that_the_adapter_does_not_reach_has_no_scale(found):
    shown = {condition: (a, 0) for condition, (a, _) in AMOUNTS.items()}
    scales = measure_style(found, "e", similarities(shown, seed=3))
    assert scales.keys() == {"ink"}
    assert not [name for name in metrics(found) if "attainment" in name and name.endswith("/oil")]
    assert not [name for name in metrics(found) if "both_score" in name]
    assert endpoints(found)["b 1: style_gain[e]/oil"].p_holm > 0.05
    blends = [name for name in endpoints(found) if "both_above_coin_flip" in name]
    assert len(blends) == 3  # declared and named, but not tested, so the p-values of the others do not count them
    for name in blends:
        test = endpoints(found)[name]
        assert (test.difference, test.p_value, test.p_holm) == (None, None, None)
    ink = endpoints(found)["a 1: style_gain[e]/ink"]
    assert ink.p_holm == pytest.approx(2 * ink.p_value)
    assert f"{blends[0]}: could not be measured" in summary(found)
    assert "is not shown to be nearer to the style oil than the base: its style gain is " in summary(found)
    assert "nearer to the style ink" not in summary(found)
    assert metrics(found)["b 1: style_without_trigger[e]/oil"].n == PROMPTS  # of it something is known all the same


def test_a_second_judge_makes_twice_as_many_tests_to_adjust_for(found):
    measure_style(found, "e", similarities(AMOUNTS))
    alone = endpoints(found)["a 1: style_gain[e]/ink"]
    measure_style(found, "f", similarities(AMOUNTS, seed=1))
    assert len(endpoints(found)) == 10
    both = endpoints(found)["a 1: style_gain[e]/ink"]
    assert both.p_value == alone.p_value
    assert both.p_holm == pytest.approx(2 * alone.p_holm)


def test_a_sweep_that_follows_its_weights_and_one_that_jumps(found):
    measure_style(found, "e", similarities(AMOUNTS))
    measure_response(found, "e")
    at = "ink + oil, sum: weight_response_{}[e]".format
    assert metrics(found)[at("rank_correlation")].value == pytest.approx(1)
    assert metrics(found)[at("slope")].value == pytest.approx(1, abs=0.05)
    assert metrics(found)[at("violations")].value == 0
    stuck = AMOUNTS | {f"a {a} + b {b}": (0.5, 0.5) for a, b in ((0.7, 0.3), (0.4, 0.6))}
    measure_style(found, "e", similarities(stuck))
    measure_response(found, "e")
    assert metrics(found)[at("slope")].value == pytest.approx(0, abs=0.1)  # which the two alone would hide
    jumping = AMOUNTS | {"a 0.7 + b 0.3": (0.0, 1.0), "a 0.4 + b 0.6": (1.0, 0.0)}
    measure_style(found, "e", similarities(jumping))
    measure_response(found, "e")
    assert metrics(found)[at("violations")].value >= 1
    assert metrics(found)[at("rank_correlation")].value < 0
    assert metrics(found)[at("slope")].value < 0


def test_skill_is_against_the_base_on_the_same_pictures_in_all_and_at_each_timestep(found):
    losses = [[0.1 * (i + 1)] * 8 for i in range(5)]
    half = [[value / 2 for value in row] for row in losses]
    half[0] = [0.1, *half[0][1:]]
    table = {"base": losses, "a 1": half}
    measure_skill(found, [{"condition": a, "style": "ink", "losses": row} for a, some in table.items() for row in some])
    assert metrics(found)["a 1: skill_at_timestep@937/ink"].value == pytest.approx(0.5)
    assert metrics(found)["a 1: skill_at_timestep@62/ink"].value == pytest.approx(1 - (0.1 + 0.7) / 1.5)
    whole = 1 - sum(map(sum, half)) / sum(map(sum, losses))
    assert metrics(found)["a 1: skill/ink"].value == pytest.approx(whole)
    assert not [name for name in metrics(found) if name.startswith("base")]


def test_only_unit_vectors_are_scaled():
    unit = torch.nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    assert torch.allclose(scaled(unit), unit * 4)
    assert torch.equal(scaled(unit * 3), unit * 3)


def test_cells():
    assert cell(Estimate(0.5, 0.25, 0.75, 3)) == "0.500 (0.250 to 0.750)"
    assert cell(Estimate(0.5, -np.inf, np.inf, 3)) == "0.500 (no interval)"
    assert cell(Estimate(1.0, 1.0, 1.0, 3)) == "1.000"
    assert cell(None) == "-"


class Colours:
    """An encoder of mean colours that counts what it encodes."""

    name = "colours"

    def __init__(self):
        self.seen = []

    def encode_images(self, images):
        self.seen.append(len(images))
        return torch.nn.functional.normalize(images.float().mean((2, 3)), dim=1)

    def encode_texts(self, texts):
        return torch.nn.functional.normalize(torch.tensor([[1.0, len(text), 2.0] for text in texts]), dim=1)


def painted(colour, n, seed):
    noise = torch.randint(-20, 21, (n, 3, 12, 12), generator=torch.Generator().manual_seed(seed))
    return list((torch.tensor(colour)[:, None, None] + noise).clamp(0, 255).to(torch.uint8))


def coloured(root, rename=lambda name: name):
    """Pictures of a test of red ink and blue oil, and real ones; `rename` changes the names of conditions."""
    colours = {"base": (130, 130, 130), "a 1": (200, 60, 60), "b 1": (60, 60, 200)}
    made = [row for row in rows() if row["condition"].removesuffix(", no trigger") in [*colours, "a 0.5 + b 0.5"]]
    for row in made:
        colour = colours.get(row["condition"].removesuffix(", no trigger"), (190, 0, 190))
        to_pil(painted(colour, 1, row["index"][0])[0]).save(root / row["file_name"])
    made += [row | {"condition": '"oil of {}"', "weights": [0, 0]} for row in made if row["condition"] == "base"]
    made = [row | {"condition": rename(row["condition"])} for row in made]
    real = [painted(colour, 10, seed) for seed, colour in enumerate(((230, 40, 40), (40, 40, 230)))]
    styles = [StylePictures(name, some, some) for name, some in zip(("ink", "oil"), real, strict=True)]
    return MadePictures.of_rows(made, {"a": "ink", "b": "oil"}, root), styles


def test_a_blend_stands_beside_mixed_pixels_and_a_cut_and_pictures_are_encoded_once(tmp_path):
    pictures, styles = coloured(tmp_path)
    judge = Colours()
    found = measure_all(pictures, styles, [], [judge], [judge], [judge])
    blend = {name.split(": ")[1]: one for name, one in metrics(found).items() if name.startswith("a 0.5 + b 0.5: ")}
    for control in ("pixel_average", "cut"):  # a both-score is fooled by either
        assert blend[f"both_score_of_{control}[colours]"].ci_low > blend["coin_flip[colours]"].ci_high
    assert metrics(found)['"oil of {}": both_score_of_words[colours]/ink + oil'].value == pytest.approx(0, abs=0.1)
    margin = blend["both_above_pixel_average[colours]"]
    difference = blend["both_score[colours]"].value - blend["both_score_of_pixel_average[colours]"].value
    assert margin.value == pytest.approx(difference)
    count = PROMPTS * SEEDS
    conditions, controls, once = 8 * [count], 2 * [count], 4 * [10]
    assert sorted(judge.seen) == sorted(conditions + controls + once)


def test_beside_the_gains_stands_what_real_pictures_that_define_no_style_reach(tmp_path):
    pictures, (ink, oil) = coloured(tmp_path)
    ink = StylePictures("ink", painted((220, 60, 60), 7, 5), ink.held_out)
    found = measure_all(pictures, [ink, oil], [], [Colours()], [Colours()], [Colours()])
    mean = np.mean([colour / np.linalg.norm(colour) for colour in map(of_picture, ink.held_out)], 0)
    near = [mean @ colour / np.linalg.norm(mean) / np.linalg.norm(colour) for colour in map(of_picture, ink.training)]
    real = metrics(found)["base: style_gain_of_real_pictures[colours]/ink"]
    assert real.value == pytest.approx(np.mean(near) - metrics(found)["base: style[colours]/ink"].value, abs=1e-6)
    assert real.ci_low < real.value < real.ci_high
    assert real.n == 7
    assert real.value > metrics(found)["a 1: style_gain[colours]/ink"].value > 0


def of_picture(picture):
    return picture.double().mean((1, 2)).numpy()


def test_names_may_hold_whatever_separates_other_names(tmp_path):
    """A judge has a hub id, an adapter the name of a file: `org/net`, `a: 1`, `a | <b>`."""
    names = {"a 1": "a: x[1]/ink 1", "b 1": "b|<b>\n, no trigger 1", "a 0.5 + b 0.5": "a 0.5 + b: 0.5, cut"}

    def rename(name):
        silent = name.endswith(", no trigger")
        name = name.removesuffix(", no trigger")
        return names.get(name, name) + ", no trigger" * silent

    pictures, styles = coloured(tmp_path, rename)
    judge = Colours()
    judge.name = "org/net: [v2]"
    found = measure_all(pictures, styles, [], [judge], [judge], [judge])
    plain = measure_all(*coloured(tmp_path), [], [Colours()], [Colours()], [Colours()])
    assert main_table(found)[0] == main_table(plain)[0]
    assert {"style gain, ink", "attainment of oil", "both"} <= set(main_table(found)[0])
    assert [cells[1:] for cells in main_table(found)[1]] == [cells[1:] for cells in main_table(plain)[1]]
    assert len(found.metrics) == len(plain.metrics)
    widths = {line.replace("\\|", "").count("|") for line in markdown(*main_table(found)).splitlines()}
    assert widths == {len(main_table(found)[0]) + 1}
    shown = page(found, styles, "<title>")
    assert "<b>\n" not in shown
    assert "b|&lt;b&gt;" in shown
    assert "&lt;title&gt;" in shown
    assert all(line["condition"] in {"base", '"oil of {}"', *names.values()} for line in found.lines())


def test_pictures_are_read_as_they_are_encoded_and_those_of_other_sizes_one_by_one():
    images = [torch.full((3, 4, 4 + i // 64), i, dtype=torch.uint8) for i in range(130)]
    images[100] = images[100][:, :3]
    first, second, third = in_batches(images)
    assert first.shape == (64, 3, 4, 4)
    assert [image.size for image in second[36:38]] == [(5, 3), (5, 4)]
    assert np.array_equal(np.asarray(second[0]), images[64].permute(1, 2, 0))
    assert torch.equal(third, torch.stack(images[128:]))
