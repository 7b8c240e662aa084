"""The measures of a report: which it shows, what they are called, and what they mean."""

from __future__ import annotations

from stylelora.metrics.attainment import ATTAINMENT
from stylelora.metrics.both import BOTH_ABOVE_COIN_FLIP, BOTH_ABOVE_PIXEL_AVERAGE, BOTH_SCORE
from stylelora.metrics.clip_score import CLIP_SCORE, CLIP_SCORE_CHANGE
from stylelora.metrics.measure import MEASURES
from stylelora.metrics.skill import SKILL
from stylelora.metrics.style import STYLE_GAIN, STYLE_GAIN_OF_REAL
from stylelora.records import Quantity
from stylelora.studies.report_outcome import Outcome
from stylelora.studies.report_read import Reading

#: Measures of the main table, beside the primary one.
SHOWN = (STYLE_GAIN, SKILL, CLIP_SCORE, CLIP_SCORE_CHANGE, BOTH_SCORE)
#: What needs more words than elsewhere, where a page has explained it before.
MEANINGS = {
    STYLE_GAIN.name: "how much nearer to the style pictures are than the base's of the same prompts and seeds; near is "
    "the cosine of a picture's vector to the mean vector of the style's held-out pictures",
    STYLE_GAIN_OF_REAL.name: "the same of real pictures of the style, those that its adapter is trained on, in place "
    "of drawn ones: the ceiling beside which to read a style gain, though these pictures need not show what the "
    "prompts ask for. The interval is over these pictures, and takes the base's mean as exact",
    SKILL.name: "the share of the base's loss on held-out pictures that the adapter removes: 0 is the base, 1 a "
    "perfect prediction of the noise",
    CLIP_SCORE.name: "how well pictures show what the prompt asks for, whatever the style: the cosine of a picture's "
    "vector to that of its prompt without trigger words",
    CLIP_SCORE_CHANGE.name: "the CLIP score minus that of the base's pictures of the same prompts and seeds: what the "
    "adapter costs the content",
    BOTH_SCORE.name: "the mean over pictures of the smaller of their attainments of both styles, each on a scale from "
    "the base, 0, to the style's adapter alone, 1: a picture must show both. It is below 0 for the base itself, whose "
    "pictures differ from one another",
}
_ABOVE = (
    "the both-score of a blend minus that of {}; above 0, its pictures show both styles more than that does. The "
    "both-score is " + MEANINGS[BOTH_SCORE.name] + ". Where an adapter alone stays near the base, it may be far above 1"
)
MEANINGS |= {
    BOTH_ABOVE_COIN_FLIP.name: _ABOVE.format("tossing a coin between its two adapters for each picture")
    + ". Pictures of the base, which show neither style, may be above 0, too: a blend that is not above them has shown "
    "nothing",
    BOTH_ABOVE_PIXEL_AVERAGE.name: _ABOVE.format("mixing its two adapters' pictures pixel by pixel"),
}
JUDGES = {
    "mini": "a small CLIP that comes with the code, trained on named icons apart from the base",
    "mini-style": "a small vision transformer that comes with the code, trained by contrast on icons of many sets in "
    "many renderings, none of them one of the four styles",
}


def spoken(quantity: Quantity) -> str:
    """Return a quantity's measure as words."""
    name = quantity.measure.replace("clip_", "CLIP ").replace("both_score", "both-score")
    return name.replace("both_", "both-score ").replace("_", " ")


def columns(found: Reading, primary: Quantity | None) -> list[Quantity]:
    """Return what the main table shows: the primary metric, then others, each by its first judge.

    What real pictures reach, if a test measured it, stands behind the style gain.
    """
    chosen = [primary] if primary else []
    for measure in SHOWN:
        first = next((one for arm in found.arms for one in arm.called(measure.name)), None)
        chosen += [first] if first and first not in chosen else []
    real = STYLE_GAIN_OF_REAL.name
    behind = {one: one._replace(measure=real) for one in chosen if any(arm.real(one) for arm in found.arms)}
    return [column for one in chosen for column in (one, behind.get(one)) if column]


def meaning_of(quantity: Quantity, outcome: Outcome) -> str:
    """Return what a quantity is, who judges it, and which way is better."""
    measure = MEASURES[quantity.measure]
    what = MEANINGS.get(measure.name, measure.meaning)
    if measure.name == ATTAINMENT.name and outcome.scale:
        what = (
            "how near to the style pictures are, by the cosine of a picture's vector to the mean vector of the style's "
            f"held-out pictures, on one scale for all arms: 0 is the mean of the base, 1 that of {scales(outcome)}"
        )
    judge = f" Judge: {quantity.judge}" if quantity.judge else ""
    judge += f", {JUDGES[quantity.judge]}." if quantity.judge in JUDGES else "." if judge else ""
    return f"{what}.{judge} {'Higher' if measure.higher_is_better else 'Lower'} is better."


def scales(outcome: Outcome) -> str:
    """Return the arms whose attainment is 1 as text."""
    if len(outcome.scale) == 1:
        return outcome.scale[0].label
    return ", ".join(f"{arm.label} for {arm.styles[0]}" for arm in outcome.scale)


def units(primary: Quantity | None) -> str:
    """Return what was drawn from many: the independent units of a quantity."""
    return "held-out pictures" if primary and primary.measure == SKILL.name else "prompts"
