"""Mix: sliders, and base, each LoRA and their blend side by side, drawn anew while the sliders move."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import gradio as gr

from stylelora.desk.controls import Controls
from stylelora.desk.drawing import Desk, Superseded
from stylelora.desk.mix import MOST_ADAPTERS, Mix
from stylelora.desk.sheet import as_html
from stylelora.files import write
from stylelora.lora.read import BASE, described
from stylelora.records import InputError

T = TypeVar("T")
RAW = {"preprocess": False}  # `Controls.read` checks; Gradio would refuse what it offered before it was started anew
SESSIONS = 1000  # whose newest wish is remembered
KEPT_FOLDERS = 20  # of files that were taken away; Gradio has copied them when they are offered
_KEEPING = threading.Lock()


class Wishes:
    """Counts what each visitor wished for last, so that nobody waits for what they have moved on from."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def new(self, who: str) -> Callable[[], bool]:
        """Return a function that tells whether this wish is still the visitor's last."""
        with self._lock:
            number = self._last[who] = self._last.get(who, 0) + 1
            self._last.move_to_end(who)
            while len(self._last) > SESSIONS:
                self._last.popitem(last=False)
        return lambda: self._last.get(who) == number


def labels_of(mix: Mix) -> dict[tuple[float, ...], str]:
    """Return the heading of each column by its weights; the blend's says so."""
    said = {weights: described(mix.adapters, weights) or BASE for weights in mix.columns()}
    if len(mix.adapters) > 1 and any(mix.weights):
        said[mix.weights] += " (blend)"
    return said


class MixTab:
    """The tab, inside a `gr.Blocks`.

    Args:
        desk: draws.
        first: what is shown at first.
        home: folder for files that are dropped on the page.
        scratch: folder for files that are taken away.
    """

    def __init__(self, desk: Desk, first: Mix, home: Path, scratch: Path) -> None:
        self.desk, self.home, self.scratch, self.wishes = desk, home, scratch, Wishes()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.controls = Controls(desk, first)
                self.dropped = gr.File(
                    label="Drop a LoRA file here to add it", file_types=[".safetensors"], height=140, elem_id="dropped"
                )
            with gr.Column(scale=3, min_width=300, elem_classes="seen") as self.seen:
                self.said = gr.Markdown(elem_id="said", container=False)
                self.sheet = gr.HTML(elem_id="sheet")
        self.address = gr.Textbox(visible="hidden", elem_id="address")
        self.outputs = [self.said, self.sheet, self.address]
        self._wire()

    def _wire(self) -> None:
        controls = self.controls
        how = {"inputs": controls.all, "outputs": self.outputs, "show_progress": "hidden", "api_visibility": "private"}
        how |= {"trigger_mode": "multiple", "concurrency_limit": None}  # a newer wish ends an older one
        how |= RAW
        moved = [  # of what is pasted or deleted, and of a phone's keys, a Textbox has no event `input`
            one.change if isinstance(one, gr.Textbox) else one.input
            for one in controls.all
            if one not in (controls.loras, controls.shown)
        ]
        gr.on(moved, self.redraw, **how).then(**self.remember)
        chosen = controls.loras.input(
            self.choose, controls.all, controls.all, show_progress="hidden", trigger_mode="multiple",
            api_visibility="private", **RAW,
        )  # fmt: skip
        chosen.then(self.redraw, **how).then(**self.remember)
        added = self.dropped.upload(
            self.add, [self.dropped, *controls.all], [self.dropped, *controls.all], api_visibility="private"
        )
        added.success(self.redraw, **how).then(**self.remember)
        self.how = how

    @property
    def remember(self) -> dict:
        """Return the event that writes the settings into the page's address."""
        script = "(a) => { history.replaceState(null, '', a ? '?' + a : location.pathname) }"
        return {"fn": None, "inputs": [self.address], "js": script, "api_visibility": "private"}

    def folder(self) -> Path:
        """Return a new folder for what one visitor takes away; those of long ago are removed."""
        for old in sorted(self.scratch.iterdir(), key=lambda one: one.stat().st_mtime)[:-KEPT_FOLDERS]:
            shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def redraw(self, request: gr.Request, *values: object) -> Iterator[tuple]:
        """Draw what the controls say; the blend first, since it is what moves."""
        wanted = self.wishes.new(request.session_hash)
        try:
            mix = self.controls.read(values)
            labels, notes = labels_of(mix), "\n".join(f"- {note}" for note in self.desk.notes(mix))
            drawn = self.desk.remembered(mix, wanted)
            missing = [weights for weights in labels if weights not in drawn]
            for weights in sorted(missing, key=lambda one: one != mix.weights) or [mix.weights]:
                drawn[weights] = self.desk.draw(mix, weights, wanted)
                if (weights == mix.weights or len(drawn) == len(labels)) and wanted():
                    yield notes, as_html(mix, labels, drawn), mix.address()
        except Superseded:
            return
        except InputError as error:
            if wanted():
                yield f"**{error}**", gr.skip(), gr.skip()

    def choose(self, *values: object) -> list:
        """Give each chosen LoRA a slider; one that had one keeps its weight."""
        try:
            return self.controls.show(self.controls.read(values))
        except InputError:  # drawing says it
            return [gr.skip() for _ in self.controls.all]

    def add(self, file: str, *values: object) -> list:
        """Put a dropped file on the shelf, and on the desk if there is room."""

        def added() -> list:
            self.desk.check(Path(file))
            name = self.desk.offer(*keep(Path(file), self.home, self.desk.shelf))
            loras, *others = values
            chosen = list(dict.fromkeys([*loras, name]))
            if len(chosen) > MOST_ADAPTERS:
                gr.Warning(f"{name} is there to choose, but {MOST_ADAPTERS} LoRAs are chosen already; remove one first")
            return [None, *self.controls.show(self.controls.read((chosen[:MOST_ADAPTERS], *others)))]

        return attempt(added, [None, *(gr.skip() for _ in self.controls.all)], file)


def attempt(make: Callable[[], T], otherwise: T, file: str = "") -> T:
    """Return what is made; or say on the page what the visitor did wrong, and return something else.

    Args:
        make: makes it.
        otherwise: what is returned else.
        file: a file of the visitor, who knows it by its name only.
    """
    try:
        return make()
    except InputError as error:
        gr.Warning(str(error).replace(f"{Path(file).parent}/" if file else "\0", ""), duration=None, title="Not done")
        return otherwise


def keep(file: Path, home: Path, shelf: Mapping[str, Path]) -> tuple[Path, str]:
    """Copy a dropped file to where the desk finds it after a new start; return where, and its name there.

    A file that is on the shelf already is not copied, and another of the same name gets a number.
    """
    content, free, number = file.read_bytes(), file.stem, 2
    with _KEEPING:  # two visitors may drop different files of one name
        while (target := shelf.get(free, home / f"{free}.safetensors")).exists():
            if target.read_bytes() == content:
                return target, free
            free, number = f"{file.stem}-{number}", number + 1
        target = home / f"{free}.safetensors"
        write(target, content)
    return target, free
