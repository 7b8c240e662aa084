"""The program `desk`: a page to blend LoRAs by hand, and to watch a training."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stylelora.records import InputError
from stylelora.runs.start import stop_all


def desk(
    adapters: list[str] | str = [],  # noqa: B006
    base: str = "mini",
    runs: str = "runs",
    host: str = "127.0.0.1",
    port: int = 7860,
    scorer: str | None = None,
) -> None:
    """Serve the mixing desk: a page to blend LoRAs by hand, and to watch a training.

    Args:
        adapters: LoRA files that are on the desk at first; default: those of the runs.
        base: base model: mini, a diffusers folder, a single-file checkpoint (.safetensors) or a hub id.
        runs: folder of the runs, whose LoRAs are offered and can be watched; files dropped on the page are kept there.
        host: address to serve at; 0.0.0.0 lets everybody in the network in.
        port: port to serve at.
        scorer: CLIP model that scores pictures: mini, a folder or a hub id; default: mini on the base mini, else none.

    Raises:
        InputError: if Gradio is not installed, or the base or a LoRA cannot be used.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        from stylelora.desk import page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise InputError("gradio is not installed; type `pip install -e '.[desk]'`") from error
    from stylelora.desk.drawing import Desk
    from stylelora.desk.find_runs import loras_of

    table = Desk(base, "mini" if scorer is None and base == "mini" else scorer)
    given = [Path(one) for one in ([adapters] if isinstance(adapters, str) else adapters)]
    chosen = [table.offer(file, table.check(file)) for file in given]
    found = [table.offer(file, name) for name, file in loras_of(Path(runs)).items() if file not in given]
    with tempfile.TemporaryDirectory(prefix="desk-") as scratch:
        try:
            page.launch(page.build(table, chosen or found[:2], Path(runs), Path(scratch)), host, port)
        finally:
            stop_all()  # trainings that it began
