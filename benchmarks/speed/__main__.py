"""The benchmark's command line: `python -m benchmarks.speed --base mini`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch

from benchmarks.speed import desk, launches, runs, sampling, table, training
from benchmarks.speed.bases import prepare_base
from benchmarks.speed.clocks import PRECISIONS, Settings, ceilings, free, machine
from stylelora.console import quiet

#: Seconds that must be left to begin a section, on a GPU.
LEAST = {"gains": 60, "sampling": 30, "compiled": 90, "growth": 60}


def limits(bench: training.Bench, save: Any) -> None:
    """Measure the machine's ceilings in each precision that is compared."""
    own, found = bench.settings, {}
    for precision in PRECISIONS if own.device == "cuda" else [own.precision]:
        found[precision] = ceilings(Settings(own.device, precision, own.batch, own.resolution))
        save(found)


SECTIONS = {
    "ceilings": limits,
    "operations": training.work,
    "training": training.training,
    "memory": training.memory,
    "gains": training.gains,
    "sampling": sampling.sampling,
    "compiled": training.compiled,
    "encoding": runs.encoding,
    "growth": sampling.growth,
    "start": runs.start,
    "run": runs.run,
    "pictures": runs.pictures,
    "counted": runs.counted,
    "launches": launches.launches,
    "desk": desk.desk,
}


def usual(base: str, device: str) -> list[str]:
    """Return the sections that suit a base and a device."""
    mini, cuda = base == "mini", device == "cuda"
    suits = {"run": mini and not cuda, "pictures": mini and not cuda, "compiled": cuda, "start": not cuda}
    suits["desk"] = mini and not cuda
    suits["counted"] = suits["launches"] = base == "sd15" and not cuda
    return [name for name in SECTIONS if suits.get(name, True)]


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    cuda = torch.cuda.is_available()
    parser.add_argument("--base", default="mini", help="mini, sd15 (its shape, random weights) or a diffusers folder")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--resolution", type=int, help="px; default: 64 for mini, 512 on a GPU, else 128")
    parser.add_argument("--batch", type=int, help="pictures per step; default: 16 for mini, else 1")
    parser.add_argument("--precision", choices=list(PRECISIONS), help="default: bf16 on a GPU, else fp32")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5, help="blocks of steps of each loop")
    parser.add_argument("--only", help="sections, separated by commas: " + ", ".join(SECTIONS))
    parser.add_argument("--seconds", type=float, default=86400, help="begin no section after this many seconds")
    parser.add_argument("--folder", type=Path, default=Path(".cache/speed"), help="where bases and pictures are made")
    parser.add_argument("--output", type=Path, default=Path("build/speed.json"), help="JSON; sections there are kept")
    return parser.parse_args()


def main() -> None:
    """Run the sections, print each as a table, and write all to the file after each."""
    started, args = time.monotonic(), arguments()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*|Already found a `peft_config`.*")
    diffusers.logging.set_verbosity_error()  # in eight loops it says the same of each copied network
    quiet()
    mini, cuda = args.base == "mini", args.device == "cuda"
    settings = Settings(
        device=args.device,
        precision=args.precision or ("bf16" if cuda else "fp32"),
        batch=args.batch or (16 if mini else 1),
        resolution=args.resolution or (64 if mini else 512 if cuda else 128),
        rank=args.rank,
    )
    base = prepare_base(args.base, args.folder, args.device)
    bench = training.Bench(base, args.folder, settings, args.repeats, started + args.seconds)
    result = json.loads(args.output.read_text()) if args.output.is_file() else {"sections": {}, "errors": {}}
    result |= {"base": args.base, "date": str(datetime.date.today()), "machine": machine(args.device)}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    print(f"ready after {time.monotonic() - started:.0f} s: {result['machine']}", flush=True)

    for name in args.only.split(",") if args.only else usual(args.base, args.device):
        if bench.left < LEAST.get(name, 0):
            print(f"{name}: left out, for lack of time", flush=True)
            continue

        def save(found: Any, name: str = name) -> None:
            result["sections"][name] = found
            args.output.write_text(json.dumps(result, indent=1))

        began = time.monotonic()
        try:
            SECTIONS[name](bench, save)
            result["errors"].pop(name, None)
        except Exception:  # the other sections have their own numbers
            result["errors"][name] = traceback.format_exc()
            args.output.write_text(json.dumps(result, indent=1))
            print(f"{name} failed:\n{result['errors'][name]}", flush=True)
        free(args.device)
        if name in result["sections"]:
            print(table.section(name, result), flush=True)
        print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
