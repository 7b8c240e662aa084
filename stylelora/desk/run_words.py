"""What a training has come to, in words."""

from __future__ import annotations

import math

from stylelora.desk.run_view import RunView
from stylelora.records import Estimate
from stylelora.runs.kept import point
from stylelora.runs.resume import resume_command

RULES = {
    "balanced": "it has the highest skill among those whose samples still show what their prompts say",
    "skill": "it has the highest skill",
    "last": "it is the last one",
}
SKILL = (
    "how much better than the base it predicts pictures of the style that it was not trained on; 0: the base, 1: all"
)
CLIP = "how well samples show what their prompts say, by a CLIP model; a style should not cost much of it"
LOSS = (
    "error of the predicted noise; the training loss falls on when a LoRA only memorises its pictures, so skill counts"
)


def number(value: float | None) -> str:
    """Return a number as text; a dash: it was not measured."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def with_interval(one: Estimate | None) -> str:
    """Return an estimate with its 95 % interval, if that has ends."""
    if one is None or not math.isfinite(one.ci_low + one.ci_high):
        return number(one and one.value)
    return f"{number(one.value)} ({number(one.ci_low)} to {number(one.ci_high)})"


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "–" if value is None else f"{value:.0%}"


def place(view: RunView, index: int) -> str:
    """Return what a validation is called: its epoch, counted from 1, or its number and where it was."""
    one = view.points[index]
    epoch = f"epoch {one.epoch + 1}" + (f" of {view.epochs}" if view.epochs else "")
    return epoch if view.by_epochs else f"measurement {index + 1}: {epoch}, step {one.step}"


def state(view: RunView) -> str:
    """Return where a training stands, and what stopped it."""
    planned = f" of {view.epochs}" if view.epochs else ""
    done = f"epoch {view.points[-1].epoch + 1}{planned}" if view.points else ""
    after = f"after {done}" if done else "before anything was measured"
    go_on = f"to go on, type: {resume_command(view.folder)}"
    match view.state:
        case "training":
            return f"Training now; {f'{done} is' if done else 'nothing is yet'} measured. This page follows it."
        case "finished":
            return f"Finished {after}."
        case "stopped":
            return f"Stopped {after}; {go_on}"
        case "failed":
            return f"Failed {after}: {view.reason}"
    return f"Ended without a word, as in a power cut, {after}; {go_on}"


def about(view: RunView) -> str:
    """Return what was trained, which adapter is kept, and why."""
    said = []
    if view.notes.get("trigger"):
        said.append(f"Trigger word: {view.notes['trigger']}, on the base {view.notes.get('base', 'of the run')}.")
    if view.kept is not None:
        why = RULES.get(view.rule[0], "by its rule")
        if view.notes.get("held_out_count") == "0":
            why = "without held-out pictures it is the last one"
        elif _shows_too_little(view, view.kept):
            why = "no epoch's samples show enough of what their prompts say, and its show most"
        said.append(f"Kept: {place(view, view.kept)}; {why}.")
    elif view.adapter is None:
        said.append("There is no kept adapter yet." if view.state == "training" else "No adapter was kept.")
    if view.reason and view.state in ("finished", "training"):
        said.append(f"Note: {view.reason}.")
    return " ".join(said)


def heading(view: RunView, index: int) -> str:
    """Return the title of a validation."""
    name = place(view, index)
    return name[0].upper() + name[1:] + (", kept" if index == view.kept else "")


def numbers(view: RunView, index: int) -> str:
    """Return what a validation measured, in a few sentences."""
    one, said = view.points[index], []
    if one.skill is not None:
        said.append(f"Skill {with_interval(one.skill)}.")
    if one.clip_score is not None:
        said.append(f"CLIP score {with_interval(one.clip_score)}; the base's is {number(one.base_score.value)}.")
    if _shows_too_little(view, index):
        said.append(
            f"Its samples show {share(one.content)} of what they should of their prompts, less than the "
            f"{share(view.rule[1])} that are asked for."
        )
    if not said:
        said.append("Nothing that was measured here was found.")
    if one.sheet is None:
        said.append("No sheet was drawn here: the run samples at other epochs only, or its file is gone.")
    return " ".join(said)


def files(view: RunView, index: int) -> str:
    """Return what the adapter files are."""
    one = view.points[index]
    if view.adapter is None and view.last is None and one.adapter is None:
        return "There is no adapter file yet; the first is written after the first validation."
    said = "The kept adapter is the one to use; the last one is that of the last step."
    if one.adapter is None:
        return f"{said} No file of this epoch was saved; save_adapter.every_n_epochs saves some."
    return f"{said} Names of files count epochs from 0: {point(one.epoch, one.step)}."


def _shows_too_little(view: RunView, index: int) -> bool:
    """Return whether a rule asks for more of the prompts than a validation's samples show."""
    content = view.points[index].content
    return view.rule[0] == "balanced" and content is not None and content < view.rule[1]
