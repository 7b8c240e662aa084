"""An evaluation as a table for the terminal, and as a page to look at."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from torch import Tensor

from stylelora.data.images import to_pil
from stylelora.evaluation.evaluation import BASE, ConditionPictures, Evaluation, Style, parts
from stylelora.records import Metric

SHOWN = 8  # pictures of the gallery's rows, and of the nearest pairs
EXTREMES = 6  # best and worst pictures of a metric

#: What a metric says, by its name before the judge's.
EXPLANATIONS = {
    "clip_score": "cosine of the picture's vector to its content prompt's, without trigger and style words",
    "clip_score_full": "the same to the whole prompt, trigger words included",
    "style": "cosine of the picture's vector to the mean of the style's held-out pictures",
    "attainment": "how much of the style is reached: 0 is the base, 1 its adapter alone; by another's: cross-talk",
    "attainment_without_trigger": "the same of prompts without the trigger word: what shows of the style unasked",
    "trigger_effect": "attainment with the trigger word minus without it",
    "style_gain": "what is added to the base's similarity to the style; of an adapter alone, its primary endpoint",
    "style_without_trigger": "similarity to the style of the same adapters' pictures of prompts without trigger words",
    "both_score": "mean over pictures of the smaller of both attainments: a picture must show both styles",
    "both_score_of_base": "both-score of the base's pictures, on the same scales",
    "both_score_of_first": "both-score of the first style's adapter alone",
    "both_score_of_second": "both-score of the second style's adapter alone",
    "both_score_of_pixel_average": "both-score of mixing the two adapters' pictures pixel by pixel, which is no blend",
    "both_score_of_cut": "both-score of one adapter's picture cut and set beside the other's, which is no blend",
    "both_score_of_words": "both-score of the base that is told of styles in words: what adapters have to beat",
    "both_above_pixel_average": "both-score minus that of mixing pixels; exploratory",
    "both_rate": "share of pictures that show more of each style than 95 % of the other adapter's pictures do",
    "coin_flip": "both-score of tossing a coin between the two adapters alone: what a blend has to beat",
    "both_above_coin_flip": "both-score minus the coin's, primary endpoint of a blend",
    "collage": "spread of the difference in attainments over nine crops; higher than of single adapters: a collage",
    "collage_of_cut": "the same of one adapter's picture cut and set beside the other's: what a sure collage has",
    "clip_direction": "how far the picture moved from the base's towards the style's words; noisy",
    "kid": "unbiased kernel distance to held-out pictures, about 0 at equality, to be seen beside the base's own",
    "frechet": "Fréchet distance of so many pictures to so many held-out ones; biased when few: compare equal n only",
    "precision": "share of pictures that lie among held-out ones",
    "recall": "share of held-out pictures that lie among the made ones",
    "density": "how densely held-out pictures surround the made ones; 1 at equality",
    "coverage": "share of held-out pictures that have a made one near",
    "diversity": "mean cosine distance between the pictures of one prompt; lower than the base's: collapse",
    "vendi": "effective number of different pictures among so many; prompts differ, so compare conditions only",
    "memorisation": "share of pictures nearer to a training picture than 95 % of held-out ones are; some 0.05 is usual",
    "drift": "cosine distance to the base's picture of the same seed where the prompt has no trigger word",
    "pixel_drift": "mean change of pixels, 0 to 1, in the same pictures",
    "skill": "share of the base's loss on held-out pictures that the adapter removes",
    "skill_at": "the same at one timestep",
    "weight_response_rank_correlation": "rank correlation of the difference in attainments with that in weights",
    "weight_response_slope": "slope of the same: 1 if attainments follow the weights",
    "weight_response_violations": "weights at which the difference goes the wrong way",
    "weight_response_share_error": "mean distance of the realised share of a style from the requested one",
}


#: What `floor` says of a metric: what to see the conditions' beside.
FLOORS = {
    "kid": "the same between two halves of the held-out pictures: how far equal ones scatter at half the number",
    "frechet": "the same between two halves of the held-out pictures; so few are biased upwards more",
    "coverage": "the same to expect if the made pictures were drawn from the style itself",
    "memorisation": "the same to expect of new pictures of the style that copy nothing",
}


def explanation(name: str) -> str:
    """Return what a metric says, by its full name such as `base: kid[mini]/watercolor`."""
    condition, metric = name.split(": ", 1)
    return (FLOORS if condition == "floor" else EXPLANATIONS)[re.sub(r"(_\d+|@[\d,]+)$", "", parts(metric)[0])]


def cell(metric: Metric | None) -> str:
    """Return a value with its interval, `0.42 (0.31 to 0.53)`, or a dash; one of which nothing is known says so."""
    if metric is None:
        return "-"
    if metric.ci_low == metric.ci_high == 1:  # the end of a scale
        return f"{metric.value:.3f}"
    if not (math.isfinite(metric.ci_low) or math.isfinite(metric.ci_high)):
        return f"{metric.value:.3f} (no interval)"
    return f"{metric.value:.3f} ({metric.ci_low:.3f} to {metric.ci_high:.3f})"


def first(found: Evaluation, prefix: str) -> str:
    """Return the name of the first metric that begins so, judge included; for columns of a table."""
    names = (name.split(": ", 1)[1] for name in found.metrics)
    return next((name for name in names if name.startswith(prefix)), prefix)


def rows_of(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of the main table: content, style gain and attainment of each style, both of blends."""
    styles = dict.fromkeys(name.split("/")[-1] for name in found.metrics if ": style_gain[" in name)
    columns = {"CLIP score": first(found, "clip_score[")}
    columns |= {f"style gain, {style}": f"{first(found, 'style_gain[').split('/')[0]}/{style}" for style in styles}
    columns |= {f"attainment of {style}": f"{first(found, 'attainment[').split('/')[0]}/{style}" for style in styles}
    columns |= {"both": first(found, "both_score["), "coin flip": first(found, "coin_flip[")}
    columns |= {"both rate": first(found, "both_rate[")}
    rows = []
    for condition in found.conditions:
        cells = [cell(found.metrics.get(f"{condition.name}: {name}")) for name in columns.values()]
        rows.append([condition.name, *cells])
    kept = [i for i in range(len(columns) + 1) if any(row[i] != "-" for row in rows)]
    heading = ["condition", *columns]
    return [heading[i] for i in kept], [[row[i] for i in kept] for row in rows]


def summary(found: Evaluation) -> str:
    """Return the main table and the tests, in Markdown."""
    heading, rows = rows_of(found)
    lines = [markdown(heading, rows)]
    lines.append(f"\nMean (95 % interval) over {counted(found)}.")
    return "\n".join([*lines, *unmeasured(found), *tests_said(found.metrics, found.tests)])


def counted(found: Evaluation) -> str:
    """Return how many prompts there are, and pictures of each."""
    prompts = len(set(found.prompts))
    each = len(found.prompts) // prompts
    return f"{prompts} prompt{'s' * (prompts > 1)}, {each} picture{'s' * (each > 1)} of each"


def unmeasured(found: Evaluation) -> list[str]:
    """Return a line for each style whose adapter is here and that has no attainment all the same."""
    return [
        f"no attainment of {name.split('/')[-1]}: {cell(gain)} is not surely above 0, of so many prompts; {name}"
        for name, gain in found.metrics.items()
        if ": style_gain[" in name and name in found.tests
        if name.replace(": style_gain[", ": attainment[") not in found.metrics
    ]


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def p_said(p_value: float) -> str:
    """Return a p-value with four digits, or that it is below them."""
    return f"{p_value:.4f}" if p_value >= 0.00005 else "<0.0001"


def tests_said(metrics: Mapping[str, Metric], tests: Mapping[str, dict]) -> list[str]:
    """Return a line for each test of a declared endpoint."""
    return [
        f"{name}: {cell(metrics.get(name))}, p = {p_said(test['p'])}, Holm {p_said(test['p_holm'])}"
        for name, test in tests.items()
    ]


def page(found: Evaluation, styles: Sequence[Style], title: str) -> str:
    """Return an HTML page that lies beside the folder of pictures.

    Args:
        found: an evaluation.
        styles: real pictures of the styles.
        title: of the page.
    """
    heading, rows = rows_of(found)
    tests = [
        [name, cell(found.metrics.get(name)), p_said(test["p"]), p_said(test["p_holm"])]
        for name, test in found.tests.items()
    ]
    parts = [
        _HEAD.format(title=escape(title)),
        f"<p>{counted(found)}, intervals of 95 % over prompts. All conditions share prompts and seeds.</p>",
        _table(heading, rows),
        *(f"<p>{escape(line)}</p>" for line in unmeasured(found)),
        "<p>By the first judge of each kind; all metrics are below.</p>",
        "<h2>Primary endpoints</h2>" + _table(["endpoint", "difference", "p", "Holm's p"], tests) if tests else "",
        "<h2>Pictures</h2>",
        _gallery(found),
        _skills(found, styles),
        "<h2>Best and worst</h2>",
        *(_extremes(found, condition) for condition in found.conditions),
        "<h2>Nearest training pictures</h2>" if found.pairs else "",
        *(_pairs(found, style, judge) for style in styles for judge in dict.fromkeys(key[2] for key in found.pairs)),
        "<h2>All metrics</h2>",
        _table(
            ["condition: metric", "value", "n", "meaning"],
            [[name, cell(metric), str(metric.n), explanation(name)] for name, metric in found.metrics.items()],
        ),
    ]
    return "\n".join(parts)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{escape(one)}" for one in heading)]
    lines += ["<tr>" + "".join(f"<td>{escape(one)}" for one in row) for row in rows]
    return "\n".join([*lines, "</table>"])


def _picture(file: str, below: str) -> str:
    return f'<figure><img src="{escape(file)}" alt=""><figcaption>{escape(below)}</figcaption></figure>'


def _gallery(found: Evaluation) -> str:
    places = [i for i, seed in enumerate(found.base.seeds) if seed == found.base.seeds[0]][:SHOWN]
    lines = ["<table><tr><th>" + "".join(f"<th>{escape(condition.name)}" for condition in found.conditions)]
    for i in places:
        cells = "".join(f'<td><img src="{escape(condition.files[i])}" alt="">' for condition in found.conditions)
        lines.append(f"<tr><td>{escape(found.base.contents[i])}{cells}")
    return "\n".join([*lines, "</table>"])


def _skills(found: Evaluation, styles: Sequence[Style]) -> str:
    names = [style.name for style in styles]
    rows = [
        [condition.name, *(cell(found.metrics.get(f"{condition.name}: skill/{name}")) for name in names)]
        for condition in found.conditions
        if condition.name != BASE
    ]
    rows = [row for row in rows if set(row[1:]) != {"-"}]
    heading = "<h2>Skill of each adapter on held-out pictures of each style</h2>"
    return heading + _table(["condition", *names], rows) if rows else ""


def _extremes(found: Evaluation, condition: ConditionPictures) -> str:
    parts = [f"<h3>{escape(condition.name)}</h3>"]
    for name, values in condition.values.items():
        own = name.startswith("attainment[") and name.split("/")[-1] in condition.weights
        if not (own or name.startswith(("clip_score[", "both_score["))):
            continue
        order = np.argsort(-values, kind="stable")
        for word, some in (("best", order[:EXTREMES]), ("worst", order[::-1][:EXTREMES])):
            shown = [_picture(condition.files[i], f"{values[i]:.2f} {condition.contents[i]}") for i in some]
            parts.append(f'<p>{escape(name)}, {word}</p><div class="sheet">{"".join(shown)}</div>')
    return "\n".join(parts)


def _pairs(found: Evaluation, style: Style, judge: str) -> str:
    parts = []
    for condition in found.conditions:
        if (condition.name, style.name, judge) not in found.pairs:
            continue
        index, cosine = found.pairs[condition.name, style.name, judge]
        nearest = cosine.argsort(descending=True)[:SHOWN].tolist()
        shown = [
            _picture(condition.files[i], f"{cosine[i]:.3f} {condition.contents[i]}")
            + _picture(_inline(style.training[int(index[i])]), "training")
            for i in nearest
        ]
        heading = escape(f"{condition.name}, {style.name}, by {judge}")
        parts.append(f'<p>{heading}</p><div class="sheet">{"".join(shown)}</div>')
    return "\n".join(parts)


def _inline(image: Tensor) -> str:
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: evaluation</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px }} th {{ text-align: left }}
td, th {{ border-top: 1px solid #ddd; padding: .3rem .6rem; vertical-align: top }}
img {{ width: 96px; image-rendering: pixelated }} figure {{ margin: 0; width: 100px }} figcaption {{ font-size: 11px }}
.sheet {{ display: flex; flex-wrap: wrap; gap: .6rem }}
</style><h1>{title}</h1>"""
