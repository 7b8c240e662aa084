"""A folder of raw pictures becomes a training set, and what would hurt is said before training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stylelora.base.load import load_tokenizer, resolve_base
from stylelora.data.captions import Caption, beside, check_template
from stylelora.data.srgb import opaque_colour
from stylelora.data.styles import STYLES, Style
from stylelora.preprocess.captioning import CaptionOptions, find_captions, load_captioners
from stylelora.preprocess.census import Entry, page, table
from stylelora.preprocess.find import LISTINGS, Found, find_files, is_paper
from stylelora.preprocess.normalise import Recipe, Row, normalise_all
from stylelora.preprocess.problems import (
    ADVICE,
    Limits,
    Problem,
    caption_problems,
    group_duplicates,
    picture_problems,
    shared_start,
)
from stylelora.preprocess.training_set import check_target, locked, partial_of, put_in_place, write_training_set
from stylelora.records import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def preprocess(
    source: str,
    style: str,
    output: str | None = None,
    resolution: int = 512,
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] | None = None,
    resize: Literal["keep", "down"] = "down",
    crop: Literal["keep", "square"] = "keep",
    background: str = "white",
    captions: list[str] | str = ["sidecar", "metadata"],  # noqa: B006
    caption_template: str = "{name}",
    trigger: str | None = None,
    template: str | None = None,
    remove: list[str] | str = [],  # noqa: B006
    blip: str = "Salesforce/blip-image-captioning-base",
    scorer: str = "mini",
    vocabulary: str | None = None,
    device: str = "cpu",
    base: str = "mini",
    max_enlargement: float = 1.0,
    min_sharpness: float = 50.0,
    min_jpeg_quality: int = 50,
    strict: bool = True,
    allow: list[str] | str = [],  # noqa: B006
    drop: list[str] | str = [],  # noqa: B006
    workers: int | None = None,
) -> None:
    """Turn a folder of raw pictures into a training set: PNGs, captions, a census. The source is never touched.

    Args:
        source: folder of pictures of any format, with sub-folders.
        style: name of the style; watercolor, cartoon, anime and pixelart bring their own trigger and interpolation.
        output: folder to write; default: data/STYLE. What an earlier run wrote there is replaced.
        resolution: side in pixels that training will bring the pictures to; checks and `resize` refer to it.
        interpolation: resampling; nearest brings enlarged pixel art back to one pixel per cell and never mixes
            pixels.
        resize: keep sizes, or bring the shorter side down to the resolution; nothing is ever enlarged here.
        crop: keep the shape, or cut the middle square out.
        background: colour that transparent pictures are laid on.
        captions: where captions are looked for, in this order: sidecar (.txt or .caption beside the picture), metadata
            (metadata.jsonl or .csv), filename, template, blip, retrieval (nearest text of a vocabulary).
        caption_template: of the source `template`; {name} is the file's name in words, {folder} its folder's.
        trigger: word that stands for the style; taken out of captions, since training puts it in front.
        template: how training words a caption.
        remove: phrases to take out of captions, with commas between, such as "a watercolor painting of".
        blip: hub id or folder of the BLIP that the source `blip` uses.
        scorer: CLIP that the source `retrieval` uses: mini, a folder or a hub id.
        vocabulary: text file with one possible caption per line, for `retrieval`; default: what mini knows.
        device: where BLIP and the CLIP run, such as cpu or cuda.
        base: base whose tokenizer counts the tokens of captions.
        max_enlargement: a picture that training enlarges by more than this factor is a problem.
        min_sharpness: a picture with a smaller variance of the Laplacian is a problem.
        min_jpeg_quality: a JPEG of less quality is a problem, 1..100.
        strict: write nothing while there are problems that are neither allowed nor dropped.
        allow: problems that may pass, with commas between: unreadable, skipped, no-caption, no-trigger, shared-words,
            long-caption, duplicate, near-duplicate, enlarged, enlarged-pixels, blurred, jpeg.
        drop: problems whose pictures are left out, named like those of `allow`.
        workers: processes; default: one per core that may be used.

    Raises:
        InputError: if the options contradict each other, or there are problems.
    """
    root, target = Path(source), Path(output or Path("data", style)).resolve()
    known = STYLES.get(style) or Style(style, trigger="")
    trigger, interpolation = trigger or known.trigger, interpolation or known.interpolation
    template = template or known.template
    allow, drop, captions, remove = (_listed(value) for value in (allow, drop, captions, remove))
    if workers is None:  # macOS has no affinity
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = Limits(max_enlargement, min_sharpness, min_jpeg_quality)
    settings = {
        "style": style, "source": source, "trigger": trigger, "template": template, "resolution": resolution,
        "interpolation": interpolation, "resize": resize, "crop": crop, "background": background, "captions": captions,
        "remove": remove, "limits": asdict(limits), "base": base, "strict": strict, "allow": allow, "drop": drop,
    }  # fmt: skip
    _check_options(settings, workers)
    check_target(root, target)
    options = CaptionOptions(captions, caption_template, remove, trigger, blip, scorer, vocabulary, device)
    files, tokenizer, captioners = find_files(root), load_tokenizer(resolve_base(base)), load_captioners(options)
    with locked(partial := partial_of(target)):
        names = [_below(root, found) for found in files if found.kind == "picture"]
        recipe = Recipe(resolution, interpolation, resize, crop, background)
        rows = [*normalise_all(names, root, partial, recipe, [target, partial], workers), *other_files(files, root)]
        listings = [found.path for found in files if _is_listing(found)]
        pictures = [row for row in rows if row.file_name]
        entries = judge(rows, *find_captions(root, pictures, partial, listings, options, captioners), limits, settings,
                        tokenizer)  # fmt: skip
        print(table(entries, settings))
        report = target.with_name(f"{target.name}.census.html")
        blocking = {problem.name for entry in entries for problem in entry.problems} - {*allow, *drop}
        if (strict and blocking) or not any(entry.used for entry in entries):
            report.write_text(page(entries, settings, partial), encoding="utf-8")
            raise InputError(
                f"{target} was not written, see {report}: mend the files, or let their problems pass by --allow "
                f"{','.join(name for name in ADVICE if name in blocking)}, or leave them out by --drop"
                if blocking
                else f"{target} was not written, see {report}: no picture of {root} is left"
            )
        write_training_set(entries, settings, partial)
        put_in_place(partial, target)
        report.unlink(missing_ok=True)
    print(f"{sum(entry.used for entry in entries)} pictures are in {target}; look at {target / 'census.html'}")


def _listed(value: list[str] | str) -> list[str]:
    """Return a list, also of words with commas between them, which are easier to type."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def other_files(files: Sequence[Found], root: Path) -> list[Row]:
    """Return rows of the files that are no pictures; a caption file that stands beside no picture is skipped."""
    wanted = {caption for found in files if found.kind == "picture" for caption in beside(found.path)}
    rows = []
    for found in files:
        if _is_listing(found) or (found.kind == "caption" and found.path in wanted):
            rows.append(Row(_below(root, found), "caption", ()))
        elif found.kind == "caption":
            verdict = "ignored" if is_paper(found.path) else "skipped"
            rows.append(Row(_below(root, found), verdict, ("text that no picture belongs to",)))
        elif found.kind != "picture":
            rows.append(Row(_below(root, found), found.kind, (found.reason,)))
    return rows


def _is_listing(found: Found) -> bool:
    return found.kind == "caption" and found.path.name.lower() in LISTINGS


def _below(root: Path, found: Found) -> str:
    return found.path.relative_to(root).as_posix()


def judge(
    rows: Sequence[Row],
    captions: dict[str, Caption],
    why: dict[str, str],
    limits: Limits,
    settings: dict,
    tokenizer: CLIPTokenizer,
) -> list[Entry]:
    """Put together what is known of every file, and decide which are used.

    Args:
        rows: what became of the files.
        captions: of the pictures that have one, by `source`.
        why: why the other pictures have none, by `source`.
        limits: from where on something is a problem.
        settings: of the run, as `preprocess` writes them into the census.
        tokenizer: of the base.
    """
    shared = shared_start([caption.text for caption in captions.values()])
    trained, problems = {}, {}
    for row in rows:
        name, caption = row.source, captions.get(row.source)
        found = picture_problems(row, settings["resolution"], settings["interpolation"], limits)
        if caption:
            trained[name] = settings["template"].format(trigger=settings["trigger"], text=caption.text)
            found += caption_problems(name, trained[name], settings["trigger"], tokenizer)
            if shared and caption.text.lower().split()[: len(shared)] == shared:
                found.append(Problem("shared-words", name, f"begins with {' '.join(shared)!r}, as most captions do"))
        elif row.file_name:
            found.append(Problem("no-caption", name, why[name]))
        problems[name] = found
    pictures = sorted((row for row in rows if row.file_name), key=lambda row: len(problems[row.source]))
    duplicates, groups = group_duplicates(pictures)  # the best of a group comes first and is none
    for problem in duplicates:
        problems[problem.source].append(problem)
    return [
        Entry(
            row,
            tuple(problems[row.source]),
            captions.get(row.source),
            trained.get(row.source, ""),
            groups.get(row.source, ""),
            used=row.source in captions and not any(p.name in settings["drop"] for p in problems[row.source]),
        )
        for row in rows
    ]


def _check_options(settings: dict, workers: int) -> None:
    if settings["resolution"] < 1 or workers < 1:
        raise InputError(f"resolution is {settings['resolution']} and workers {workers}; both must be at least 1")
    if not settings["trigger"]:
        raise InputError(f"style {settings['style']!r} has no trigger word; give one")
    names = [*settings["allow"], *settings["drop"]]
    if unknown := sorted(set(names) - set(ADVICE)):
        raise InputError(f"no problem is called {unknown[0]!r}; they are {', '.join(ADVICE)}")
    if len(set(names)) < len(names):
        raise InputError("a problem is named twice in allow and drop; it can only be one of both")
    check_template(settings["template"])
    opaque_colour(settings["background"])
