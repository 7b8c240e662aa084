"""What a visitor takes away: the mix as a config, as one LoRA, or as a picture; and the way back from a picture."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path

import gradio as gr

from stylelora.desk.mix import Mix
from stylelora.desk.mix_tab import RAW, MixTab, attempt, labels_of
from stylelora.desk.sheet import note_of, read_note, row_names, save_sheet
from stylelora.lora.compose import FULL_RANK, METHODS
from stylelora.lora.merge import merge
from stylelora.records import InputError

PICTURE = "The picture holds its settings: open it here to go on from it."
CONFIG = "`python cli.py predict --config desk.yaml` draws these pictures again."
_PRINTING = threading.Lock()  # what a program prints is caught for all threads at once


def take_away(tab: MixTab) -> None:
    """Build the part below the pictures of Mix.

    Args:
        tab: whose mix is taken away.
    """
    controls = tab.controls
    with gr.Accordion("Take away", open=False, elem_id="take-away"):
        with gr.Row():
            picture = gr.Button("Picture", elem_id="take-picture", min_width=120)
            config = gr.Button("Config", elem_id="take-config", min_width=120)
            lora = gr.Button("One LoRA", elem_id="take-lora", min_width=120)
        with gr.Row():
            naming = gr.Radio(
                ["kohya", "diffusers", "peft"], value="kohya", label="Format of the LoRA", elem_id="naming",
                info="kohya suits ComfyUI, A1111 and Forge.",
            )  # fmt: skip
            rank = gr.Number(
                0, label="Highest rank", precision=0, minimum=0, elem_id="rank",
                info="0: exact. A rank such as 32 makes a smaller file that is less exact; some methods need one.",
            )  # fmt: skip
        files = gr.File(
            label="Ready to download", interactive=False, elem_id="taken", file_count="multiple", visible=False
        )
        told = gr.Markdown(elem_id="told", container=False)
        opened = gr.File(
            label="Open a picture that was taken from here: its settings come back", file_types=[".png"], height=140,
            elem_id="opened",
        )  # fmt: skip

    nothing = gr.skip(), ""

    def as_picture(*values: object) -> tuple:
        return attempt(lambda: ready(write_picture(tab, controls.read(values)), PICTURE), nothing)

    def as_config(*values: object) -> tuple:
        return attempt(lambda: ready(write_config(tab, controls.read(values)), CONFIG), nothing)

    def as_lora(naming: str, rank: int, *values: object) -> tuple:
        return attempt(lambda: ready(*write_lora(tab, controls.read(values), naming, int(rank or 0))), nothing)

    def back(file: str) -> list:
        same = [None, *(gr.skip() for _ in controls.all)]
        return attempt(lambda: [None, *controls.show(opened_mix(tab, Path(file)))], same, file)

    quiet = {"api_visibility": "private"}
    picture.click(as_picture, controls.all, [files, told], **quiet, **RAW)
    config.click(as_config, controls.all, [files, told], **quiet, **RAW)
    lora.click(as_lora, [naming, rank, *controls.all], [files, told], **quiet, **RAW)
    opened.upload(back, opened, [opened, *controls.all], **quiet).success(tab.redraw, **tab.how).then(**tab.remember)


def ready(file: Path, said: str) -> tuple[dict, str]:
    """Return what shows a file, and words about it."""
    return gr.update(value=[str(file)], visible=True), said


def write_picture(tab: MixTab, mix: Mix) -> Path:
    """Write the pictures of a mix as one PNG with its settings.

    Raises:
        InputError: if they cannot be drawn.
    """
    file, labels = tab.folder() / "desk.png", labels_of(mix)
    drawn = [tab.desk.draw(mix, weights) for weights in labels]
    images = [[row["image"] for row in rows] for rows in zip(*drawn, strict=True)]
    note = note_of(mix, tab.desk)
    save_sheet(file, list(zip(row_names(mix), images, strict=True)), list(labels.values()), note, drawn[-1][0])
    return file


def write_config(tab: MixTab, mix: Mix) -> Path:
    """Write the config with which `predict` draws the pictures of a mix.

    Raises:
        InputError: if they cannot be drawn.
    """
    desk, file = tab.desk, tab.folder() / "desk.yaml"
    mix.check(desk.adapters(mix), desk.painter.picture_side)
    files = {name: _near(desk.shelf[name]) for name in mix.adapters}
    file.write_text(mix.config(desk.base, files, desk.triggers(mix)), encoding="utf-8")
    return file


def write_lora(tab: MixTab, mix: Mix, naming: str, rank: int) -> tuple[Path, str]:
    """Write a mix as one LoRA, as `merge` does; return its file, and what `merge` says.

    Raises:
        InputError: if its method does not blend weights, or as `merge`.
    """
    if mix.method not in METHODS:
        raise InputError(
            f"{mix.method} blends while it samples, which no one LoRA can do; choose sum, or another method"
        )
    if mix.method in FULL_RANK and not rank:
        raise InputError(f"{mix.method} makes full-rank updates; write a highest rank, such as 32")
    words, file = tab.desk.triggers(mix), tab.folder() / "blend.safetensors"
    with _PRINTING, contextlib.redirect_stdout(io.StringIO()) as said:
        merge(
            [str(tab.desk.shelf[name]) for name in mix.adapters],
            [mix.strength * weight for weight in mix.weights],
            str(file), method=mix.method, rank=rank or None, format=naming,
            triggers=["" if name in mix.silent else words[name] for name in mix.adapters],
        )  # fmt: skip
    lines = said.getvalue().replace(f"{file.parent}/", "").splitlines()
    return file, "\n".join(f"- {line}" for line in lines)


def opened_mix(tab: MixTab, file: Path) -> Mix:
    """Return the settings of a picture that was taken from a desk.

    Raises:
        InputError: if it has none, or they are of another base or of LoRAs that are not here.
    """
    note = read_note(file)
    if note["base"] != tab.desk.base:
        raise InputError(
            f"the picture was made with the base {note['base']}; start the desk with --base {note['base']}"
        )
    mix = Mix.of_record(note["mix"])
    for name, one in zip(mix.adapters, tab.desk.adapters(mix), strict=True):
        if note["sha256"].get(name) != one.sha256:
            gr.Warning(f"{name} has changed since the picture was taken, so pictures may differ", duration=None)
    return mix


def _near(file: Path) -> Path:
    """Return a path from here if it is below here, for a config that others can use."""
    here, file = Path.cwd(), file.resolve()
    return file.relative_to(here) if file.is_relative_to(here) else file
