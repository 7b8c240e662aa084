"""Map: all blends of two to four LoRAs at one seed, as a line, a triangle or a square; a click takes one to Mix."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr

from stylelora.desk.drawing import Superseded
from stylelora.desk.mix import Mix
from stylelora.desk.mix_tab import RAW, MixTab, Wishes, attempt
from stylelora.desk.sheet import note_of, save_sheet, shown
from stylelora.lora.read import described
from stylelora.records import InputError
from stylelora.runs.html import render

CLICKED = """element.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-place]');
    if (button) trigger('click', {place: button.dataset.place});
});"""
EVERY = 1.0  # seconds between two states of a map that is being drawn; each has all pictures
Rows = list[list[tuple[float, ...]]]


def places(count: int, side: int) -> Rows:
    """Return the weights of a map's pictures, row by row; those of each picture sum to 1, to three digits.

    Args:
        count: number of LoRAs: 2 (a line), 3 (a triangle, the first at its top) or 4 (a square, one in each corner).
        side: pictures along a side, at least 2.

    Raises:
        InputError: for another number of LoRAs.
    """
    last, steps = side - 1, range(side)
    if count == 2:
        rows = [[(last - i, i) for i in steps]]
    elif count == 3:
        rows = [[(last - row, row - i, i) for i in range(row + 1)] for row in steps]
    elif count == 4:
        rows = [[((last - x) * (last - y), x * (last - y), (last - x) * y, x * y) for x in steps] for y in steps]
    else:
        raise InputError(f"a map shows two, three or four LoRAs, and {count} are chosen in Mix; choose others there")
    return [[tuple(round(one / sum(parts), 3) for one in parts) for parts in row] for row in rows]


def as_html(names: Sequence[str], rows: Rows, drawn: Mapping[tuple[float, ...], dict]) -> str:
    """Return a map; each picture is a button.

    Args:
        names: of the LoRAs.
        rows: as of `places`.
        drawn: picture of each place, as of `Desk.draw`; one that is missing is shown as being drawn.
    """
    number, cells = 0, []
    for row in rows:
        cells.append([])
        for weights in row:
            found = drawn.get(weights)
            cell = {"place": number, "label": described(names, weights)}
            cell["corner"] = names[weights.index(1)] if 1 in weights else ""
            cells[-1].append(cell | (shown(found) if found else {"src": "", "small": False}))
            number += 1
    shape = {1: "line-map", len(rows[-1]): "square" if len(rows[0]) > 1 else "triangle"}[len(rows)]
    return render("desk_map.html", rows=cells, side=len(rows[-1]), shape=shape)


def first_of(mix: Mix) -> Mix:
    """Return a mix with its first prompt and seed only."""
    return replace(mix, prompts=mix.prompts[:1], seeds=mix.seeds[:1])


class MapTab:
    """The tab, inside a `gr.Blocks`.

    Args:
        mix_tab: whose LoRAs, method, first prompt and first seed it shows, and which gets the weights.
        tabs: the tabs of the page; a click goes to Mix.
    """

    def __init__(self, mix_tab: MixTab, tabs: gr.Tabs) -> None:
        self.tab, self.wishes = mix_tab, Wishes()
        controls = mix_tab.controls
        gr.Markdown(
            "All blends of the LoRAs that are chosen in Mix, with its first prompt and seed. "
            "Click on a picture to take its weights to Mix."
        )
        with gr.Row():
            self.side = gr.Slider(2, 9, value=5, step=1, label="Pictures along a side", elem_id="side", min_width=200)
            draw = gr.Button("Draw the map", variant="primary", elem_id="draw-map", min_width=140)
            take = gr.Button("As a picture", elem_id="take-map", min_width=140)
        self.said = gr.Markdown(elem_id="map-said", container=False)
        self.map = gr.HTML(elem_id="map", js_on_load=CLICKED)
        self.file = gr.File(label="Ready to download", interactive=False, elem_id="map-file", visible=False)
        self.drawn = gr.State()  # the mix and the side of the map that is shown
        private = {"api_visibility": "private"}
        inputs = [self.side, *controls.all]
        draw.click(
            self.redraw, inputs, [self.said, self.map, self.drawn], show_progress="hidden", trigger_mode="multiple",
            concurrency_limit=None, **private, **RAW,
        )  # fmt: skip
        take.click(self.picture, inputs, self.file, **private, **RAW)
        clicked = self.map.click(self.clicked, [self.drawn], [tabs, *controls.all], **private)
        clicked.success(mix_tab.redraw, **mix_tab.how).then(**mix_tab.remember)

    def pictures(self, side: float, mix: Mix, wanted: object = lambda: True) -> Iterator[tuple[Rows, dict]]:
        """Draw the map picture by picture; yield its rows and what has been drawn."""
        rows, drawn = places(len(mix.adapters), int(side)), {}
        for weights in dict.fromkeys(one for row in rows for one in row):
            drawn[weights] = self.tab.desk.draw(mix, weights, wanted)[0]
            yield rows, drawn

    def redraw(self, request: gr.Request, side: float, *values: object) -> Iterator[tuple]:
        """Draw the map anew."""
        wanted = self.wishes.new(request.session_hash)
        try:
            mix, said = self.tab.controls.read(values), 0.0
            for rows, drawn in self.pictures(side, first_of(mix), wanted):
                if time.monotonic() > said + EVERY:
                    yield "", as_html(mix.adapters, rows, drawn), (mix, int(side))
                    said = time.monotonic()
            yield "", as_html(mix.adapters, rows, drawn), (mix, int(side))
        except Superseded:
            return
        except InputError as error:
            yield f"**{error}**", gr.skip(), gr.skip()

    def clicked(self, drawn: tuple[Mix, int] | None, event: gr.EventData) -> list:
        """Take the weights of a picture to Mix."""

        def taken() -> list:
            if drawn is None:
                raise InputError("the desk was started anew since this map was drawn; draw it again")
            mix, side = drawn
            weights = [one for row in places(len(mix.adapters), side) for one in row][int(event.place)]
            return [gr.update(selected="mix"), *self.tab.controls.show(replace(mix, weights=weights))]

        return attempt(taken, [gr.skip(), *(gr.skip() for _ in self.tab.controls.all)])

    def picture(self, side: float, *values: object) -> dict:
        """Return the map as a PNG with its settings."""

        def written() -> dict:
            mix = first_of(self.tab.controls.read(values))
            return gr.update(value=str(self.written(side, mix)), visible=True)

        return attempt(written, gr.skip())

    def written(self, side: float, mix: Mix) -> Path:
        """Write the map as a PNG with its settings."""
        *_, (rows, drawn) = self.pictures(side, mix)
        widest = max(map(len, rows))
        images = [[drawn[one]["image"] for one in row] + [None] * (widest - len(row)) for row in rows]
        named = [described(mix.adapters, row[0]) for row in rows]
        file = self.tab.folder() / "map.png"
        table = list(zip(named, images, strict=True))
        save_sheet(file, table, [""] * widest, note_of(mix, self.tab.desk), drawn[rows[0][0]])
        return file
