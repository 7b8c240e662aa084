"""The program `preprocess`: a folder of raw pictures becomes a checked training set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stylelora.base.load import MOST_SIDE, load_tokenizer, resolve_base
from stylelora.data.captions import Caption, beside, check_template
from stylelora.data.srgb import opaque_colour
from stylelora.data.styles import STYLES, Style
from stylelora.files import write
from stylelora.preprocess.captioning import Captioning, CaptionOptions, find_captions, load_captioners
from stylelora.preprocess.census import Entry, page, table
from stylelora.preprocess.find import LISTINGS, Found, find_files, is_paper
from stylelora.preprocess.normalise import Conversion, Row, normalise_all
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


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are changed, besides being converted to RGB PNGs.

    Attributes:
        resize: keep sizes, or bring the shorter side down to the resolution; nothing is ever enlarged here.
        crop: keep the shape, or cut the middle square out.
        background: colour that transparent pictures are flattened onto, a name or #rrggbb.
    """

    resize: Literal["keep", "down"] = "down"
    crop: Literal["keep", "square"] = "keep"
    background: str = "white"


def preprocess(
    source: str,
    style: str,
    trigger: str | None = None,
    resolution: int = 512,
    output: str | None = None,
    captions: list[str] | str = ["sidecar", "metadata"],  # noqa: B006
    remove: list[str] | str = [],  # noqa: B006
    allow: list[str] | str = [],  # noqa: B006
    drop: list[str] | str = [],  # noqa: B006
    interpolation: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] | None = None,
    template: str | None = None,
    strict: bool = True,
    base: str = "mini",
    workers: int | None = None,
    pictures: PictureOptions = PictureOptions(),
    captioning: Captioning = Captioning(),
    limits: Limits = Limits(),
) -> None:
    """Turn a folder of raw pictures into a training set: PNGs, captions and a report. The source is never changed.

    Args:
        source: folder of pictures in any common format, with sub-folders.
        style: name of the style; an embedded one, such as watercolor, brings its trigger, interpolation and template.
        trigger: trigger word of the style; it is removed from captions, since training puts it in front.
        resolution: training resolution in pixels, 512 for SD 1.5, 64 for mini; pictures are checked for it.
        output: folder to write; default: data/STYLE. A training set that an earlier run wrote there is replaced.
        captions: caption sources, tried in this order; sidecar (.txt or .caption beside the picture), metadata
            (metadata.jsonl or .csv), filename, template, blip, retrieval (nearest text of a vocabulary).
        remove: phrases to remove from captions, separated by commas; such as "a watercolor painting of".
        allow: problems to accept, separated by commas; unreadable, skipped, no-caption, no-trigger, shared-words,
            long-caption, duplicate, near-duplicate, cropped, enlarged, enlarged-pixels, blurred, jpeg, too-large.
        drop: problems whose pictures are left out, separated by commas; named as for `allow`.
        interpolation: how pictures are resized; nearest is for pixel art: it brings enlarged pixels back to one pixel
            each and never mixes pixels. Default: the style's own, or lanczos.
        template: wording of captions in training; default: "{trigger}, {text}".
        strict: write nothing while there are problems; unless they are allowed or dropped.
        base: base whose tokenizer counts the tokens of captions.
        workers: number of processes; default: one per available core.
        pictures: how pictures are changed.
        captioning: automatic captions; how they are made where nobody has written one.
        limits: thresholds of the checks; beyond them a picture has a problem.

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
    settings = {
        "style": style, "source": source, "trigger": trigger, "template": template, "resolution": resolution,
        "interpolation": interpolation, **asdict(pictures), "captions": captions, "captioning": asdict(captioning),
        "remove": remove, "limits": asdict(limits), "base": base, "strict": strict, "allow": allow, "drop": drop,
    }  # fmt: skip
    _check_options(settings, workers)
    limits.check()
    check_target(root, target)
    options = CaptionOptions(captions, remove, trigger, captioning)
    files, tokenizer, captioners = find_files(root), load_tokenizer(resolve_base(base)), load_captioners(options)
    with locked(partial := partial_of(target)):
        names = [_below(root, found) for found in files if found.kind == "picture"]
        conversion = Conversion(resolution, interpolation, **asdict(pictures))
        rows = [*normalise_all(names, root, partial, conversion, [target, partial], workers), *other_files(files, root)]
        listings = [found.path for found in files if _is_listing(found)]
        usable = [row for row in rows if row.file_name]
        entries = judge(rows, *find_captions(root, usable, partial, listings, options, captioners), limits, settings,
                        tokenizer)  # fmt: skip
        print(table(entries, settings))
        report = target.with_name(f"{target.name}.census.html")
        blocking = {problem.name for entry in entries for problem in entry.problems} - {*allow, *drop}
        if (strict and blocking) or not any(entry.used for entry in entries):
            write(report, page(entries, settings, partial, written=False))
            raise InputError(
                f"{target} was not written, see {report}: do what is advised for each problem, or accept them with "
                f"--allow {','.join(name for name in ADVICE if name in blocking)}, or drop their pictures with --drop"
                if blocking
                else f"{target} was not written, see {report}: no usable picture of {root} is left"
            )
        write_training_set(entries, settings, partial)
        put_in_place(partial, target)
        report.unlink(missing_ok=True)
    print(f"{sum(entry.used for entry in entries)} pictures are in {target}; open {target / 'census.html'}")
    if repeated := sum(entry.used and entry.repeats > 1 for entry in entries):
        print(f"{repeated} of them have `repeats` in metadata.jsonl, by their folders' names; fit shows them so often")


def _listed(value: list[str] | str) -> list[str]:
    """Accept a list or a comma-separated string, which is easier to type."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def other_files(files: Sequence[Found], root: Path) -> list[Row]:
    """Return rows for the files that are not pictures; caption files without a picture are marked skipped."""
    wanted = {caption for found in files if found.kind == "picture" for caption in beside(found.path)}
    rows = []
    for found in files:
        if _is_listing(found) or (found.kind == "caption" and found.path in wanted):
            rows.append(Row(_below(root, found), "caption", ()))
        elif found.kind == "caption":
            verdict = "ignored" if is_paper(found.path) else "skipped"
            rows.append(Row(_below(root, found), verdict, ("text without a picture",)))
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
    """Collect the problems of every file, and decide which files are used.

    Args:
        rows: rows of all files.
        captions: `source` -> caption, for pictures that have one.
        why: `source` -> reason, for pictures without a caption.
        limits: thresholds of the checks.
        settings: settings of the run, as written to the census.
        tokenizer: tokenizer of the base.
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
                words = " ".join(shared)
                found.append(Problem("shared-words", name, f"begins with {words!r}, like most captions", words))
        elif row.file_name:
            found.append(Problem("no-caption", name, why[name]))
        problems[name] = found
    pictures = sorted((row for row in rows if row.file_name), key=lambda row: len(problems[row.source]))
    duplicates, groups = group_duplicates(pictures)  # best first: the first of a group is not a duplicate
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
    if not 1 <= settings["resolution"] <= MOST_SIDE or workers < 1:
        given = f"resolution is {settings['resolution']} and workers {workers}"
        raise InputError(f"{given}; give a resolution from 1 to {MOST_SIDE} px, and at least one worker")
    if not settings["trigger"]:
        raise InputError(f"style {settings['style']!r} has no trigger word; give one with --trigger")
    names = [*settings["allow"], *settings["drop"]]
    if unknown := sorted(set(names) - set(ADVICE)):
        raise InputError(f"no problem is called {unknown[0]!r}; they are {', '.join(ADVICE)}")
    if len(set(names)) < len(names):
        raise InputError("a problem is named twice in allow and drop; name each once")
    check_template(settings["template"])
    opaque_colour(settings["background"])
