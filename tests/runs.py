"""Pictures and runs for tests of the whole, small enough for a second each."""

import contextlib
import functools
import io
import json
import os
import sys
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image

from stylelora.records import Metric, SampleBatch

ROOT = Path(__file__).resolve().parents[1]
CONTENTS = ["a cat", "a red boat"]


def adamw(lr: float, **options) -> functools.partial:
    """Return what makes an AdamW, as the command line gives it to the module."""
    return functools.partial(torch.optim.AdamW, lr=lr, **{"weight_decay": 1.0e-2, **options})


def draw_pictures(folder: Path, count: int = 8) -> Path:
    """Write pictures with captions; held_out 0.4 splits eight of them into five and three."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i + 3).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.bmp")  # BMP: the same bytes with every version of Pillow
        (folder / f"{i}.txt").write_text(f"a thing with number {i}")
    return folder


def fit_words(base, scorer, root, folder, *more, epochs=1) -> list[str]:
    """Command line of a small run that writes to `folder`; later words win."""
    return [
        "fit",
        f"--config={ROOT / 'configs' / 'quickstart.yaml'}",
        f"--model.base={base}",
        "--model.rank=4",
        "--model.lr_scheduler=null",  # a falling rate depends on the length of the run, which resuming changes
        "--model.num_inference_steps=2",
        f"--data.root={root}",
        "--data.batch_size=2",
        "--data.repeats=2",
        "--data.held_out=0.4",
        f"--data.prompts={CONTENTS}",
        f"--data.cache={folder.parent / 'cache'}",
        f"--clip_score.scorer={scorer}",
        f"--trainer.max_epochs={epochs}",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={folder}",
        *more,
    ]


def evaluation_words(base, scorer, adapters, roots, folder, *more, weights="[[0.6, 0.4], [0.3, 0.7]]") -> list[str]:
    """Command line of a small test of adapters, with a folder of pictures for each style; later words win."""
    options = [{"root": str(root), "resolution": 64, "trigger": f"{root.name}style"} for root in roots]
    styles = [{"class_path": "datamodules.StyleDataModule", "init_args": one} for one in options]
    return [
        "test",
        "--model=lightning_modules.ComposedStyles",
        f"--model.base={base}",
        f"--model.adapters={json.dumps([str(file) for file in adapters])}",
        f"--model.weights={weights}",
        "--model.num_inference_steps=2",
        "--data=datamodules.EvaluationSet",
        f"--data.styles={json.dumps(styles)}",
        "--data.prompts=[a cat, a red boat, a tree]",
        f"--evaluate.content=[{scorer}]",
        f"--evaluate.distribution=[{scorer}]",
        f"--trainer.default_root_dir={folder}",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
        *more,
    ]


def run_cli(words: list[str]) -> tuple[int, str]:
    """Run a command line in this process; return its exit status and what it says on stderr."""
    import lightning.pytorch  # noqa: F401  its log goes to the stderr it is loaded under, so not to `said`

    import cli

    said, environment, arguments = io.StringIO(), dict(os.environ), sys.argv
    sys.argv = ["cli.py"]  # Lightning warns where pytest's own are there
    try:
        with contextlib.redirect_stderr(said):
            cli.main(words)
        return 0, said.getvalue()
    except SystemExit as stop:
        if isinstance(stop.code, int):
            return stop.code, said.getvalue()
        return 1, f"{said.getvalue()}{stop.code}\n"  # as the interpreter prints it
    finally:
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)


def holds(parsed, written) -> bool:
    """Tell whether what was parsed has all that was written, at any depth; defaults may stand beside it."""
    if isinstance(written, dict):
        return all(holds(parsed[name], value) for name, value in written.items())
    if isinstance(written, list):
        return len(parsed) == len(written) and all(map(holds, parsed, written))
    return parsed == written


def metrics_of(folder: Path) -> dict[str, dict]:
    """Records of the metrics of a run's `result.json`, by their text."""
    records = json.loads((folder / "result.json").read_text())["metrics"]
    found = {str(Metric.of_record(record)): record for record in records}
    assert len(found) == len(records)
    return found


class Keep(L.Callback):
    """Remembers what validation gives and logs."""

    def __init__(self):
        self.samples, self.logged, self.adapters = [], [], []

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        if isinstance(outputs, SampleBatch):
            self.samples.append(outputs)

    def on_validation_end(self, trainer, pl_module):
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.logged.append(values)
        self.adapters.append(tensors(pl_module))


def tensors(module):
    """A copy of the adapter's tensors by name."""
    layers = module.adapter_layers()
    return {f"{name}.{factor}": getattr(layer, factor) for name, layer in layers.items() for factor in ("down", "up")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def entries(cache):
    """Bytes of every file by its place, sub-folders by the first two letters of the name."""
    return {path.relative_to(cache.folder): path.read_bytes() for path in cache.folder.rglob("*") if path.is_file()}


def one_sentence(status, said):
    assert status != 0
    first, _, rest = said.partition("\n")
    said = rest if "; look into " in first and not first.startswith("error") else said  # where the run works
    assert said.startswith("error: ")
    assert said.count("\n") == 1 and said.endswith("\n")
    assert "Errors:" not in said and "class_path" not in said  # no shell of the parser's around it
