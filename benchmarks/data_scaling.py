"""Do memory and time per step grow with the number of pictures? `python -m benchmarks.data_scaling`.

For each count it makes random 16 px pictures with a caption each, and trains on the embedded base twice, each time in
a process of its own: the first fills the cache, the second finds everything there, as any later run does.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SKIPPED = 10  # warm-up steps, in which memory is still being allocated


def make_pictures(folder: Path, count: int) -> None:
    """Write random pictures and their captions, unless they exist."""
    listing = folder / "metadata.jsonl"
    if listing.is_file() and len(listing.read_text().splitlines()) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06}.png")
        rows.append(json.dumps({"file_name": f"{i:06}.png", "text": f"a thing with number {i}"}) + "\n")
    listing.write_text("".join(rows))  # written last: its presence means that all pictures exist


def train(root: Path, cache: Path, steps: int) -> dict[str, float]:
    """Train some steps in this process.

    Returns:
        `start`: seconds to the first step; `step`: median milliseconds per step; `memory`: MB of this process after
        the last step; `peak`: peak memory in MB.
    """
    import lightning.pytorch as L

    from datamodules import StyleDataModule
    from lightning_modules import StyleLoRA
    from stylelora.console import quiet

    class Watch(L.Callback):
        """Records the time of each step."""

        def __init__(self):
            self.times = []

        def on_train_batch_end(self, *_):
            self.times.append(time.perf_counter())

    quiet()
    L.seed_everything(0, verbose=False)
    watch, started = Watch(), time.perf_counter()
    data = StyleDataModule(root=str(root), trigger="zqx", resolution=64, batch_size=16, repeats=2, cache=str(cache))
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, limit_val_batches=0, num_sanity_val_steps=0, logger=False,
        callbacks=[watch], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(StyleLoRA(base="mini"), data)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "start": watch.times[0] - started,
        "step": 1000 * statistics.median(np.diff(watch.times[SKIPPED:])),
        "memory": pages * resource.getpagesize() / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def measured(counts: Iterable[int], steps: int, folder: Path) -> Iterator[dict[str, float]]:
    """Yield what `train` returns for each number of pictures, with `count` and `first start`."""
    for count in counts:
        root = folder / str(count)
        make_pictures(root, count)
        words = [sys.executable, "-m", "benchmarks.data_scaling", f"--folder={folder}", f"--measure={root}"]
        first, later = (
            json.loads(subprocess.run([*words, f"--steps={n}"], stdout=subprocess.PIPE, check=True).stdout)
            for n in (SKIPPED + 2, steps)
        )
        yield {"count": count, "first start": first["start"], **later}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 50_000], help="numbers of pictures")
    parser.add_argument("--steps", type=int, default=200, help="steps of each run")
    parser.add_argument("--folder", type=Path, default=Path(".cache/data_scaling"), help="where pictures and cache go")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a single run in its own process
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(train(args.measure, args.folder / "cache", args.steps)))
        return
    print("| pictures | first start | later start | per step | memory | peak |\n|---|---|---|---|---|---|")
    for one in measured(args.counts, args.steps, args.folder):
        print(
            f"| {one['count']} | {one['first start']:.0f} s | {one['start']:.1f} s | {one['step']:.0f} ms "
            f"| {one['memory']:.0f} MB | {one['peak']:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
