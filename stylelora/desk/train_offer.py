"""Without any LoRA the desk offers to train those of the embedded styles."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import gradio as gr

from stylelora.desk.mix_tab import MixTab
from stylelora.desk.run_view import read_run
from stylelora.records import InputError
from stylelora.runs.folder import adapter_file
from stylelora.runs.start import ROOT
from stylelora.studies.work import Step, work
from stylelora.texts import read_yaml

CONFIGS = "configs/train/mini"
EVERY = 1.0  # seconds between two looks at a training


def train_offer(tab: MixTab, runs: Path) -> gr.Column:
    """Build the offer, and return it.

    Args:
        tab: gets the LoRAs.
        runs: folder of runs.
    """
    controls = tab.controls
    names = sorted(file.stem for file in (ROOT / CONFIGS).glob("*.yaml"))
    with gr.Column() as offer:
        styles = gr.CheckboxGroup(
            names, value=["watercolor", "cartoon"], label="There is no LoRA yet: train some", elem_id="styles",
            info="Of small sets of pictures that come along. Each takes minutes; Watch shows how far it is.",
        )  # fmt: skip
        start = gr.Button("Train", variant="primary", elem_id="train")
        state = gr.Markdown(elem_id="trained", min_height=60, max_height=120)

    def train(chosen: list[str], progress: gr.Progress = gr.Progress()) -> Iterator[list]:
        same = [gr.skip() for _ in controls.all]
        done = []
        for number, style in enumerate(chosen):
            words = f"{style} ({number + 1} of {len(chosen)})"
            try:
                for share in training(style, runs):
                    progress((number + share) / len(chosen), f"training {words}")
            except InputError as error:
                yield [f"**{words}: {error}**", gr.skip(), *same]
                return
            done.append(tab.desk.offer(adapter_file(runs / "train" / "mini" / style), style))
            yield [f"{', '.join(done)}: trained", gr.skip(), *same]
        if done:
            yield ["", gr.update(visible=False), *controls.show(tab.desk.first_mix(done))]

    event = start.click(
        train, styles, [state, offer, *controls.all], api_visibility="private", concurrency_limit=1,
        show_progress_on=state,
    )  # fmt: skip
    event.success(tab.redraw, **tab.how).then(**tab.remember)
    return offer


def training(style: str, runs: Path) -> Iterator[float]:
    """Train a style as a step of a study is: go on with what was stopped, wait for one that runs; yield its share.

    Raises:
        InputError: if it fails; it says why.
    """
    folder = runs / "train" / "mini" / style
    step = Step("fit", style, folder.with_suffix(".yaml"), read_yaml(ROOT / CONFIGS / f"{style}.yaml"), folder)
    pool = ThreadPoolExecutor(1)
    trained = pool.submit(work, step)
    pool.shutdown(wait=False)  # it goes on when the page is closed
    while wait([trained], EVERY).not_done:
        yield _share(runs, folder)
    if why := trained.result():
        raise InputError(why)


def _share(runs: Path, folder: Path) -> float:
    try:
        run = read_run(runs, str(folder.relative_to(runs)))
    except InputError:  # not begun
        return 0.0
    return len(run.points) / run.epochs if run.epochs else 0.0
