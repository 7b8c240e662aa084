"""The tab "Watch": a training's curves, sheets and adapters, also while it trains."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylelora.desk import run_words as words
from stylelora.desk.curves import curves, table
from stylelora.desk.find_runs import is_training, run_of, trainings
from stylelora.desk.run_view import RunView, read_run, traces
from stylelora.files import reason
from stylelora.records import InputError

EVERY = 4  # seconds between two looks at the files
RENEWED = 1200  # seconds until what may be downloaded is copied again, as the page deletes copies after a while
MOST = 10**6  # as many validations as a page may name to a server that was started again and knows no run yet
#: What a page remembers between two looks: choices of the list, files of the run, and its kept validation.
UNSEEN: dict[str, Any] = {"choices": None, "traces": None, "kept": None}


def watch_tab(runs: Path) -> None:
    """Fill a tab of a page, inside `gr.Blocks`.

    Args:
        runs: folder of runs; need not be there yet; no file outside is shown or handed out.
    """
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            run = gr.Dropdown(
                [], label="Run", info=f"A training below {runs}; the newest comes first.", elem_id="watch-run",
                allow_custom_value=True,
            )  # fmt: skip
        with gr.Column(min_width=300):
            state = gr.HTML(elem_id="watch-state", padding=False)
    figures = gr.HTML(elem_id="watch-curves", padding=False)
    with gr.Accordion("All numbers", open=False, visible=False) as unfolded:
        numbers = gr.HTML(elem_id="watch-numbers", padding=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            place = gr.Slider(1, MOST, 1, step=1, label="Epoch", buttons=[], visible=False, elem_id="watch-place")
            caption = gr.HTML(elem_id="watch-caption", padding=False)
            with gr.Row():
                kept, last, own = (
                    gr.DownloadButton(label, size="sm", min_width=100, elem_id=f"watch-{which}", visible=False)
                    for label, which in (("Kept adapter", "kept"), ("Last adapter", "last"), ("This epoch's", "own"))
                )
            files = gr.HTML(elem_id="watch-files", padding=False)
        with gr.Column(min_width=300, scale=2):
            sheet = gr.Image(
                show_label=False, type="filepath", interactive=False, buttons=["download", "fullscreen"],
                elem_id="watch-sheet",
            )  # fmt: skip
    seen, timer = gr.State(UNSEEN), gr.Timer(EVERY, active=False)  # active once there is something to keep up with
    of_epoch = dict(figures=figures, caption=caption, sheet=sheet, own=own, files=files)
    of_run = dict(
        run=run, state=state, numbers=numbers, unfolded=unfolded, place=place, kept=kept, last=last, seen=seen
    )
    page = of_run | of_epoch

    def shown(found: dict[str, Any]) -> dict[Any, Any]:
        return {page[name]: value for name, value in found.items()}

    def look(name: str | None, number: float, before: dict, anew: bool = False) -> dict[Any, Any]:
        """Update what has changed on the disk since the last look."""
        found, choices = {}, _choices(runs, name)
        name = name or (choices[0][1] if choices else None)
        now = before | {"choices": choices, "traces": _traces(runs, name)}
        if now["choices"] != before["choices"]:
            found["run"] = gr.Dropdown(choices, value=name)
        if anew or now["traces"] != before["traces"]:
            at = None if anew or number - 1 == before["kept"] else int(number) - 1
            found |= _whole(runs, name, at, now)
        return shown(found | ({"seen": now} if now != before else {})) or gr.skip()

    def choose(name: str | None, before: dict) -> dict[Any, Any]:
        """Show another run, beginning with its kept adapter."""
        return look(name, 1, before, anew=True)

    def begin() -> dict[Any, Any]:
        """Show the newest run on a page that was just opened."""
        return look(None, 1, UNSEEN, anew=True) | {timer: gr.Timer(active=True)}

    def move(name: str | None, number: float) -> dict[Any, Any]:
        """Show another epoch."""
        return shown(_guarded(lambda: _of_epoch(_read(runs, name), int(number) - 1), ("caption",)))

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on(None, begin, None, [*page.values(), timer], **quiet)
    run.input(choose, [run, seen], list(page.values()), **quiet)
    place.input(move, [run, place], list(of_epoch.values()), trigger_mode="always_last", **quiet)
    timer.tick(look, [run, place, seen], list(page.values()), **quiet)


def _choices(runs: Path, chosen: str | None) -> list[tuple[str, str]]:
    """Return label and name of each training; of one that is shown, also when it has gone."""
    names = trainings(runs)
    found = [(f"{name} (training now)" if is_training(runs / name) else name, name) for name in names]
    return found if chosen is None or chosen in names else [*found, (f"{chosen} (gone)", chosen)]


def _traces(runs: Path, name: str | None) -> tuple | str:
    try:
        return (*traces(run_of(runs, name)), int(time.time() // RENEWED)) if name else ""
    except InputError as error:
        return str(error)


def _read(runs: Path, name: str | None) -> RunView:
    """Read a training, unless it is as it was."""
    if not name:
        raise InputError(
            f"Nothing has been trained below {runs} yet; type `python cli.py fit --config configs/quickstart.yaml`, "
            "which takes minutes, and watch it here from its first step on"
        )
    return _cached(runs, name, traces(run_of(runs, name)))


@functools.lru_cache(maxsize=16)
def _cached(runs: Path, name: str, at: tuple) -> RunView:
    del at
    return read_run(runs, name)


def _whole(runs: Path, name: str | None, index: int | None, now: dict[str, Any]) -> dict[str, Any]:
    """Return the updates of everything; index None: the kept validation, or the last one."""

    def made() -> dict[str, Any]:
        import gradio as gr

        view = _read(runs, name)
        count = len(view.points)
        now["kept"] = view.kept
        own = count - 1 if view.kept is None else view.kept
        start = own if index is None else min(index, count - 1)
        start = max(start, 0)
        slider = gr.Slider(
            1, max(count, 2), label="Epoch" if view.by_epochs else "Measurement", visible=count > 1,
            info="Whose numbers and sheet are shown; the kept one at first.",
            **({} if start == index else {"value": start + 1}),  # it may be moving
        )  # fmt: skip
        said = [words.state(view), words.about(view)]
        found = {"state": "".join(f"<p>{html.escape(one)}</p>" for one in said if one), "place": slider}
        found |= {"numbers": table(view), "unfolded": gr.Accordion(visible=count > 0)}
        found |= {"kept": _download(view.adapter), "last": _download(view.last)}
        return found | _of_epoch(view, start)

    return _guarded(
        made, ("state", "figures", "caption", "files"), ("sheet", "place", "unfolded", "kept", "last", "own")
    )


def _of_epoch(view: RunView, index: int) -> dict[str, Any]:
    """Return the updates of what belongs to one validation."""
    import gradio as gr

    if not view.points:
        note = "The first numbers and the first sheet come with the first validation, mostly after an epoch."
        note = f"<p>{note}</p>" if view.state == "training" else ""
        found = {"figures": "", "caption": note, "sheet": gr.Image(None, visible=False)}
        return found | {"own": _download(None), "files": ""}
    index = min(max(index, 0), len(view.points) - 1)
    one = view.points[index]
    title, said = (html.escape(text(view, index)) for text in (words.heading, words.numbers))
    alt = f"Samples of {words.place(view, index)}: left of each pair the base, right the LoRA"
    return {
        "figures": curves(view, index),
        "caption": f"<p><strong>{title}</strong></p><p>{said}</p>",
        "sheet": gr.Image(
            None if one.sheet is None else _served(one.sheet), visible=one.sheet is not None, alt_text=alt
        ),
        "own": _download(one.adapter),
        "files": f"<p><small>{html.escape(words.files(view, index))}</small></p>",
    }


def _guarded(make: Callable[[], dict[str, Any]], texts: tuple[str, ...], others: tuple[str, ...] = ()) -> dict:
    """Return updates, or, for what went wrong with a run's files, its sentence in the first text and nothing else."""
    import gradio as gr

    try:
        return make()
    except InputError as error:
        said = str(error)
    except OSError as error:
        said = reason(error) or f"a file of the run cannot be read ({error.strerror or error}); look at its folder"
    said = html.escape(said[0].upper() + said[1:])
    empty = {
        "sheet": gr.Image(None, visible=False),
        "place": gr.Slider(visible=False),
        "unfolded": gr.Accordion(visible=False),
    }
    cleared = {name: empty.get(name) or _download(None) for name in others}
    return dict.fromkeys(texts, "") | cleared | {texts[0]: f'<p role="alert">{said}.</p>'}


def _served(file: Path) -> str:
    """Return a copy of a file in the cache that the page serves from, so that no other file need be served."""
    from gradio.processing_utils import save_file_to_cache
    from gradio.utils import get_upload_folder

    return save_file_to_cache(file, cache_dir=get_upload_folder())


def _download(file: Path | None) -> Any:
    """Return the update of a button that hands out a file; None: there is none to press."""
    import gradio as gr

    return gr.DownloadButton(value=None if file is None else _served(file), visible=file is not None)
