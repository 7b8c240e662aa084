"""The page of the desk: its tabs, its looks, and its address, which brings everything back."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from stylelora.console.stopping import STOPPING
from stylelora.desk.drawing import Desk
from stylelora.desk.find_runs import DROPPED, loras_of
from stylelora.desk.map_tab import MapTab
from stylelora.desk.mix import Mix
from stylelora.desk.mix_tab import MixTab
from stylelora.desk.take_away import take_away
from stylelora.desk.train_offer import train_offer
from stylelora.desk.watch_tab import watch_tab
from stylelora.records import InputError

STYLE = Path(__file__).with_name("desk.css")
READABLE = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}  # else too pale
FONTS = ["system-ui", "sans-serif"]  # those of the machine: nothing is fetched


def build(desk: Desk, chosen: list[str], runs: Path, scratch: Path) -> gr.Blocks:
    """Return the page.

    Args:
        desk: draws.
        chosen: names of the LoRAs that are on the desk at first.
        runs: folder of the runs, which can be watched; files dropped on the page are kept there, too.
        scratch: folder for files that are taken away.
    """
    with gr.Blocks(title="Mixing desk", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        first = desk.first_mix(chosen)
        gr.Markdown(
            f"### Mixing desk\nBlends LoRAs on the base *{desk.base}*; the address of this page keeps what you see."
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Mix", id="mix"):
                mix_tab = MixTab(desk, first, runs / DROPPED, scratch)
                take_away(mix_tab)
                if desk.base == "mini" and not desk.shelf:
                    with mix_tab.seen:
                        offer = train_offer(mix_tab, runs)
                    still = {"show_progress": "hidden", "api_visibility": "private"}  # there may be LoRAs by now
                    page.load(lambda: gr.update(visible=not desk.shelf), None, offer, **still)
            with gr.Tab("Map", id="map"):
                map_tab = MapTab(mix_tab, tabs)
            with gr.Tab("Watch", id="watch"):
                watch_tab(runs)

        def begin(request: gr.Request) -> list:
            known = {*desk.shelf.values()}
            for name, file in loras_of(runs).items():  # trainings may have ended meanwhile
                if file not in known:
                    desk.offer(file, name)
            try:
                return mix_tab.controls.show(Mix.of_address(dict(request.query_params), first))
            except InputError as error:
                gr.Warning(f"{error}; the desk begins anew", duration=None)
                return mix_tab.controls.show(desk.first_mix([]))

        def leave(request: gr.Request) -> None:
            for tab in (mix_tab, map_tab):  # nobody waits for what is being drawn
                tab.wishes.new(request.session_hash)

        page.unload(leave)
        begun = page.load(begin, None, mix_tab.controls.all, show_progress="hidden", api_visibility="private")
        begun.then(mix_tab.redraw, **mix_tab.how).then(**mix_tab.remember)
    return page


def launch(page: gr.Blocks, host: str, port: int) -> None:
    """Serve the page until it is stopped.

    Raises:
        InputError: if the port is taken.
    """
    try:
        page.launch(
            server_name=host, server_port=port, share=False, quiet=True, footer_links=[], ssr_mode=False,
            theme=gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]).set(**READABLE),
            css=STYLE.read_text(encoding="utf-8"), prevent_thread_lock=True, max_file_size="4gb",
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"port {port} of {host} is taken or not to be had; give another, such as --port {port + 1}"
        ) from error
    STOPPING.advice = ""  # there is nothing to continue
    print(f"the mixing desk is at http://{host}:{port}/ (Ctrl-C stops it)", flush=True)
    page.block_thread()
