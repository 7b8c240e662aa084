"""A folder of raw pictures becomes a training set, and what would hurt is said before training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stylelora.base.load import load_tokenizer, resolve_base
from stylelora.data.captions import METADATA, Caption, beside, check_template
from stylelora.data.embedded import KERNELS, TRIGGERS
from stylelora.data.find import Found, find_files
from stylelora.data.normalise import CENSUS, Recipe, Row, normalise_all
from stylelora.data.problems import (
    ADVICE,
    Limits,
    Problem,
    caption_problems,
    group_duplicates,
    picture_problems,
    shared_start,
)
from stylelora.data.reading import printable
from stylelora.data.srgb import opaque_colour
from stylelora.experiments.captioning import CaptionOptions, find_captions
from stylelora.experiments.census import Entry, as_json, page, table
from stylelora.records import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


def preprocess(
    source: str,
    style: str,
    output: str | None = None,
    resolution: int = 512,
    kernel: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] | None = None,
    resize: Literal["keep", "down"] = "down",
    crop: Literal["keep", "square"] = "keep",
    background: str = "white",
    captions: list[str] = ["sidecar", "metadata"],  # noqa: B006
    caption_template: str = "{name}",
    trigger: str | None = None,
    template: str = "{trigger}, {text}",
    remove: list[str] = [],  # noqa: B006
    blip: str = "Salesforce/blip-image-captioning-base",
    scorer: str = "mini",
    vocabulary: str | None = None,
    device: str = "cpu",
    base: str = "mini",
    max_enlargement: float = 1.0,
    min_sharpness: float = 50.0,
    min_jpeg_quality: int = 50,
    strict: bool = True,
    allow: list[str] = [],  # noqa: B006
    drop: list[str] = [],  # noqa: B006
    workers: int | None = None,
) -> None:
    """Turn a folder of raw pictures into a training set: PNGs, captions, a census. The source is never touched.

    Args:
        source: folder of pictures of any format, with sub-folders.
        style: name of the style; watercolor, cartoon, anime and pixelart bring their own trigger and kernel.
        output: folder to write; left out: data/STYLE. What an earlier run wrote there is replaced.
        resolution: side in pixels that training will bring the pictures to; checks and `resize` refer to it.
        kernel: resampling kernel; nearest brings enlarged pixel art back to one pixel per cell and never mixes pixels.
        resize: keep sizes, or bring the shorter side down to the resolution; nothing is ever enlarged here.
        crop: keep the shape, or cut the middle square out.
        background: colour that transparent pictures are laid on.
        captions: where captions are looked for, in this order: sidecar (.txt or .caption beside the picture), metadata
            (metadata.jsonl or .csv), filename, template, blip, retrieval (nearest text of a vocabulary).
        caption_template: of the source `template`; {name} is the file's name in words, {folder} its folder's.
        trigger: word that stands for the style; taken out of captions, since training puts it in front.
        template: how training words a caption.
        remove: phrases to take out of captions, such as "a watercolor painting of".
        blip: hub id or folder of the BLIP that the source `blip` uses.
        scorer: CLIP that the source `retrieval` uses: mini, a folder or a hub id.
        vocabulary: text file with one possible caption per line, for `retrieval`; left out: what mini knows.
        device: where BLIP and the CLIP run, such as cpu or cuda.
        base: base whose tokenizer counts the tokens of captions.
        max_enlargement: a picture that training enlarges by more than this factor is a problem.
        min_sharpness: a picture with a smaller variance of the Laplacian is a problem.
        min_jpeg_quality: a JPEG of less quality is a problem, 1..100.
        strict: write nothing while there are problems that are neither allowed nor dropped.
        allow: names of problems that may pass.
        drop: names of problems whose pictures are left out.
        workers: processes; left out: one per core.

    Raises:
        InputError: if the options contradict each other, or there are problems.
    """
    root, target = Path(source), Path(output or Path("data", style))
    trigger, kernel = trigger or TRIGGERS.get(style), kernel or KERNELS.get(style, "lanczos")
    _check_options(root, target, style, resolution, trigger, template, {*allow, *drop})
    opaque_colour(background)
    recipe = Recipe(resolution, kernel, resize, crop, background)
    limits = Limits(max_enlargement, min_sharpness, min_jpeg_quality)
    options = CaptionOptions(captions, caption_template, remove, trigger, blip, scorer, vocabulary, device)
    settings = {
        "style": style, "trigger": trigger, "template": template, "resolution": resolution, "kernel": kernel,
        "resize": resize, "crop": crop, "background": background, "captions": captions, "remove": remove,
        "allow": allow, "drop": drop,
    }  # fmt: skip
    partial = target.with_name(f".{target.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    files = find_files(root)
    names = [_below(root, found) for found in files if found.kind == "picture"]
    rows = normalise_all(names, root, partial, recipe, [target, partial], workers or os.cpu_count() or 1)
    rows += other_files(files, root)
    captions_of, why = find_captions(root, [row for row in rows if row.file_name], partial, options)
    entries = judge(rows, captions_of, why, limits, settings, load_tokenizer(resolve_base(base)))

    print(table(entries, allow, drop))
    blocking = [e for e in entries if any(problem.name not in {*allow, *drop} for problem in e.problems)]
    if strict and blocking:
        raise InputError(
            f"{len(blocking)} of {len(entries)} files have problems, so {target} was not written; mend them, or give "
            "the problems' names to allow or drop, or set strict to false"
        )
    if not any(entry.used for entry in entries):
        raise InputError(f"no picture of {root} is left, so {target} was not written")
    write_training_set(entries, settings, partial)
    put_in_place(partial, target)
    print(f"{sum(entry.used for entry in entries)} pictures are in {target}; look at {target / 'census.html'}")


def other_files(files: Sequence[Found], root: Path) -> list[Row]:
    """Return rows of the files that are no pictures; a caption file that stands beside no picture is ignored."""
    wanted = {caption for found in files if found.kind == "picture" for caption in beside(found.path)}
    rows = []
    for found in files:
        if found.kind == "caption" and (found.path in wanted or found.path.name in METADATA):
            rows.append(Row(_below(root, found), "caption", ()))
        elif found.kind != "picture":
            rows.append(Row(_below(root, found), "ignored", (found.reason or "no picture has this name",)))
    return rows


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
    duplicates, groups = group_duplicates([row for row in rows if row.file_name])
    duplicate = {problem.source: problem for problem in duplicates}
    shared = shared_start([caption.text for caption in captions.values()])
    entries = []
    for row in rows:
        name, caption = row.source, captions.get(row.source)
        problems = picture_problems(row, settings["resolution"], settings["kernel"], limits)
        problems += [duplicate[name]] if name in duplicate else []
        if caption and shared and caption.text.lower().startswith(shared):
            problems.append(Problem("shared-words", name, f"begins with {shared!r}, as most captions do"))
        trained = settings["template"].format(trigger=settings["trigger"], text=caption.text) if caption else ""
        if caption:
            problems += caption_problems(name, trained, settings["trigger"], tokenizer)
        elif row.file_name:
            problems.append(Problem("no-caption", name, why[name]))
        used = bool(caption) and not any(problem.name in settings["drop"] for problem in problems)
        entries.append(Entry(row, tuple(problems), caption, trained, groups.get(name, ""), used))
    return entries


def write_training_set(entries: Sequence[Entry], settings: dict, folder: Path) -> None:
    """Write captions and census beside the pictures that lie in the folder, and remove what does not belong.

    `metadata.jsonl` holds the content in `text`, for our DataModules and Hugging Face's imagefolder; the `.txt` files
    hold the whole text with trigger, as kohya's trainer wants it.
    """
    used = [entry for entry in entries if entry.used]
    lines, wanted = [], {"metadata.jsonl", CENSUS, "census.html"}
    for entry in used:
        row = entry.row
        fields = {"file_name": row.file_name, "text": entry.caption.text, "source": printable(row.source)}
        fields |= {"source_width": row.source_size[0], "source_height": row.source_size[1]}
        lines.append(json.dumps(fields | ({"group": entry.group} if entry.group else {}), ensure_ascii=False))
        sidecar = Path(row.file_name).with_suffix(".txt").name
        (folder / sidecar).write_text(entry.trained + "\n", encoding="utf-8")
        wanted |= {row.file_name, sidecar}
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "census.html").write_text(page(entries, settings, folder), encoding="utf-8")
    text = json.dumps(as_json(entries, settings), indent=1)  # ASCII: names may be no valid Unicode
    (folder / CENSUS).write_text(text + "\n", encoding="utf-8")
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()


def put_in_place(folder: Path, target: Path) -> None:
    """Replace `target` by `folder`; whenever it is killed, one of both is whole, and the next run puts it right."""
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _check_options(
    root: Path, target: Path, style: str, resolution: int, trigger: str | None, template: str, names: set[str]
) -> None:
    if resolution < 1:
        raise InputError(f"resolution is {resolution}; it is a number of pixels above 0")
    if not trigger:
        raise InputError(f"style {style!r} has no trigger word; give one")
    if unknown := sorted(names - set(ADVICE)):
        raise InputError(f"no problem is called {unknown[0]!r}; they are {', '.join(ADVICE)}")
    check_template(template)
    here, there = root.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise InputError(f"{target} lies in {root} or around it; write the training set elsewhere")
    if target.is_dir() and any(target.iterdir()) and not (target / CENSUS).is_file():
        raise InputError(f"{target} holds files that preprocess did not write; choose another output")
