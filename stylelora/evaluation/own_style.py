"""A test of adapters on what they were trained on, without a config: `test --model.adapters '[mine.safetensors]'`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stylelora.console.checks import pairs
from stylelora.console.family import is_first
from stylelora.records import InputError
from stylelora.texts import parse_yaml, read_yaml

if TYPE_CHECKING:
    from stylelora.lora.read import Adapter

STYLE = "--style"
#: Note in a LoRA file: expected share of the pictures that were held out.
HELD_OUT_SHARE = "held_out_share"
#: Options of a command line that is a config in itself.
_CLASSES = {"--model", "--model.class_path", "--data", "--data.class_path"}
#: Options of a training's data that say nothing of its pictures.
_OTHERS = {"prompts", "prompts_file", "negative_prompt", "samples_per_prompt", "sample_batch_size", "cache",
           "num_workers", "prior"}  # fmt: skip


class Tested(NamedTuple):
    """An adapter under test, and what is known of its training.

    Attributes:
        adapter: the adapter.
        file: its file.
        style: its style.
        model: options of the model of the training, by the `config.yaml` beside the file; {} if there is none.
        data: the data of the training, by the same file: `class_path` and `init_args`; {} if there is none.
    """

    adapter: Adapter
    file: Path
    style: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]


def with_style(words: Sequence[str], configs: Path) -> list[str]:
    """Read `--style NAME=FOLDER` as data of a test, and complete a test without a config by what the adapters note.

    Args:
        words: a command line.
        configs: the project's folder of configs.

    Raises:
        InputError: if it cannot be told which pictures, or which base, the test takes.
    """
    rest, folders = _taken_out(words)
    if rest[:1] != ["test"]:
        if folders:
            raise InputError(f"{STYLE} is an option of test; {rest[0]} has none of that name")
        return rest
    given = {option.replace(".init_args.", "."): value for option, value in pairs(rest)}
    written = [value for option, value in pairs(rest) if option in ("--config", "-c")]
    complete = written or _CLASSES & given.keys()
    if not folders and (complete or "--model.adapters" not in given):
        return rest
    if not (files := _adapters(given, written)) and not folders:
        return rest  # the base alone
    if not files:
        raise InputError(f"{STYLE} needs adapters to test; name their files: --model.adapters '[mine.safetensors]'")
    if "--data.styles" in given and folders:
        raise InputError(f"{STYLE} and --data.styles both name the pictures; give one of them")
    tested = _read(files, _listed(given, "--model.triggers"), folders)
    if "--data.styles" not in given:
        data = [_data_of(one, folders.get(one.style)) for one in tested]
        rest = [*rest, f"--data.styles={json.dumps(data)}"]
        _say(tested, data)
    return rest if complete else [rest[0], *_defaults(tested, given, configs), *rest[1:]]


def _taken_out(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the other words, and the folder of each style that `--style` names."""
    rest, folders, words = [], {}, iter(words)
    for word in words:
        option, equals, value = word.partition("=")
        if option != STYLE:
            rest.append(word)
            continue
        name, _, folder = (value if equals else next(words, "")).partition("=")
        if not name or not folder or name.startswith("--"):
            raise InputError(f"{STYLE} needs a name and a folder of pictures, such as {STYLE} mystyle=data/mystyle")
        if name in folders:
            raise InputError(f"{STYLE} names {name} twice; give one folder, which may have others inside")
        folders[name] = os.path.expanduser(folder)  # a shell does not, after a name
    return rest, folders


def _adapters(given: Mapping[str, str], written: Sequence[str]) -> list[str]:
    """Return the adapters' files, as the command line or else the configs name them."""
    if "--model.adapters" in given:
        return _listed(given, "--model.adapters") or []
    models = [_part(read_yaml(Path(file)), "model", "init_args") for file in written]
    named = next((one["adapters"] for one in reversed(models) if one.get("adapters")), [])
    return [str(file) for file in (named if isinstance(named, list) else [named])]


def _listed(given: Mapping[str, str], option: str) -> list[str] | None:
    """Return the values of an option that has several; None if it is not given."""
    found = parse_yaml(given[option], option) if option in given else None
    return found if found is None else [str(one) for one in (found if isinstance(found, list) else [found])]


def _read(files: Sequence[str], triggers: Sequence[str] | None, folders: Mapping[str, str]) -> list[Tested]:
    from stylelora.evaluation.adapters import styles_of
    from stylelora.lora.read import read_adapters

    adapters = read_adapters(files, triggers=triggers)
    styles = styles_of(adapters, folders)
    if stray := [name for name in folders if name not in styles.values()]:
        theirs = ", ".join(f"{name} is of {style}" for name, style in styles.items())
        raise InputError(f"no adapter is of the style {stray[0]}: {theirs}; give {STYLE} the name of one of these")
    runs = [_run_of(Path(file)) for file in files]
    together = zip(adapters, files, runs, strict=True)
    return [Tested(adapter, Path(file), styles[adapter.name], *run) for adapter, file, run in together]


def _run_of(file: Path) -> tuple[dict, dict]:
    """Return options of the model, and the data, of the training in an adapter's folder; empty if it is none's."""
    config = file.parent / "config.yaml"
    if not config.is_file():
        return {}, {}
    found = read_yaml(config)
    if "held_out" not in _part(found, "data", "init_args"):
        return {}, {}
    return _part(found, "model", "init_args"), _part(found, "data")


def _part(config: Any, *names: str) -> dict[str, Any]:
    """Return a section of a config; {} if there is none."""
    for name in names:
        config = config.get(name) if isinstance(config, dict) else None
    return config if isinstance(config, dict) else {}


def _data_of(one: Tested, folder: str | None) -> dict[str, Any]:
    """Return the data of an adapter's style, as it was trained on."""
    from stylelora.data.styles import STYLES
    from stylelora.evaluation.adapters import noted_resolution

    notes, known, side = one.adapter.metadata, STYLES.get(one.style), noted_resolution(one.adapter.metadata)
    options: dict[str, Any] = {"resolution": side} if side else {}
    if one.data:
        options |= {name: value for name, value in one.data["init_args"].items() if name not in _OTHERS}
    elif folder is None and known and notes.get("trigger") == known.trigger:
        options |= {"root": str(known.folder), "interpolation": known.interpolation, "template": known.template}
    elif folder is None and os.path.isdir(Path("data", one.style)):  # where `preprocess` writes; never raises
        options["root"] = str(Path("data", one.style))
    elif folder is None:
        raise InputError(
            f"which pictures {one.file} was trained on is not known here; name them: {STYLE} {one.style}=FOLDER"
        )
    if folder is not None:
        options["root"] = folder
    elif (root := options.get("root")) and not os.path.isdir(str(root)):
        raise InputError(f"{one.file} was trained on {root}, which is not here; give {STYLE} {one.style}=FOLDER")
    share = options.get("held_out", 0.2)
    with contextlib.suppress(ValueError):
        share = float(notes[HELD_OUT_SHARE]) if HELD_OUT_SHARE in notes else share
    if not share or notes.get("held_out_count") == "0":
        if folder is None:
            raise InputError(
                f"{one.file} was trained on all pictures of its style, so none is left to measure with; give others "
                f"of the same style: {STYLE} {one.style}=FOLDER"
            )
        share = 0.2
    trigger = notes.get("trigger")  # captions without one need no word either
    options |= {"trigger": trigger} if trigger else {"trigger": one.style, "template": "{text}"}
    options |= {"name": one.style, "held_out": share}
    return {"class_path": one.data.get("class_path", "datamodules.StyleDataModule"), "init_args": options}


def _defaults(tested: Sequence[Tested], given: Mapping[str, str], configs: Path) -> Iterator[str]:
    """Yield what a test without a config needs; the words of the command line come later and so win."""
    from stylelora.base.clip_skip import clip_skip_of

    base = given.get("--model.base") or _base_of(tested)
    yield f"--config={configs / 'evaluate' / ('one_mini.yaml' if base == 'mini' else 'one_sd15.yaml')}"
    yield f"--model.base={base}"
    yield f"--model.weights={[[float(row is one) for one in tested] for row in tested]}"
    skips = {clip_skip_of(one.adapter.metadata) for one in tested} - {None}
    if len(skips) == 1:
        yield f"--model.clip_skip={skips.pop()}"
    if "--data.prompts" in given:
        yield "--data.file=null"
    if len(tested) == 1 and tested[0].data:
        folder = tested[0].file.parent
        name = f"test{tested[0].file.stem.removeprefix(folder.resolve().name)}"  # test-last of runs/x/x-last
    else:
        folder, name = Path("runs", "evaluate"), "+".join(one.adapter.name.replace("/", "-") for one in tested)
    yield f"--trainer.default_root_dir={folder / name}"


def _base_of(tested: Sequence[Tested]) -> str:
    """Return the base that the adapters were trained on."""
    bases: dict[str, Tested] = {}
    for one in tested:
        named, noted = one.model.get("base"), one.adapter.metadata.get("base")
        found = [
            base for base in (named, noted) if base and (base == "mini" or os.path.exists(os.path.expanduser(base)))
        ]
        found += [noted] if noted and noted.count("/") == 1 else []  # a hub id; of a path only the end is noted
        if not found:
            what = f"its base, {noted}, which is not here" if noted else "no base"
            raise InputError(f"{one.file} names {what}; give it with --model.base")
        bases.setdefault(str(found[0]), one)
    if len(bases) > 1:
        words = ", ".join(f"{one.adapter.name} on {base}" for base, one in bases.items())
        raise InputError(f"the adapters were trained on several bases ({words}); name one with --model.base")
    return next(iter(bases))


def _say(tested: Sequence[Tested], data: Sequence[Mapping[str, Any]]) -> None:
    """Say, in the first process, which pictures the test takes."""
    if not is_first():
        return
    for one, found in zip(tested, data, strict=True):
        where = found["init_args"].get("root") or f"the pictures of {found['class_path']}"
        how = f"as in {one.file.parent / 'config.yaml'}" if one.data else "as its file notes"
        print(f"{one.adapter.name} is tested on {where}, {how}", file=sys.stderr)
