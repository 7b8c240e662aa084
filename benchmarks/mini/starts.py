"""What does a late start keep of things, and cost in style? `python -m benchmarks.mini.starts --sheet starts.png`.

Needs the adapters of `configs/train/mini/`. Each draws 103 things from the same noises and joins after several shares
of the steps. Judges: the style encoder (in style), and the scorer (things named, as a share of the base's).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.mini.__main__ import style_pictures, things
from benchmarks.mini.base import TRAINED, Base
from benchmarks.mini.judges import Scorer
from stylelora.base.concepts import load_concepts, with_article
from stylelora.data.images import tile
from stylelora.data.styles import STYLES
from stylelora.lora.read import read_adapter
from stylelora.metrics.style import StyleEncoder, in_style
from stylelora.runs.folder import adapter_file


def main() -> None:
    """Draw, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=float, nargs="+", default=[0, 0.1, 0.2, 0.3, 0.45])
    parser.add_argument("--styles", nargs="+", default=TRAINED)
    parser.add_argument("--sheet", type=Path, help="PNG to write: the base, then each start, of twelve things a style")
    args = parser.parse_args()
    base, encoder, scorer, names = Base("mini"), StyleEncoder(), Scorer(), list(load_concepts().values())
    contents, labels = [with_article(name) for name in things()], torch.tensor([names.index(one) for one in things()])
    plain = base.sample(contents)
    known, of_base, rows = encoder.encode_images(plain), scorer.guess(plain) == labels, []
    print("| style | start | in style | things kept | n |\n|---|---|---|---|---|")
    for name in args.styles:
        real, rows = encoder.encode_images(style_pictures(STYLES[name])), [*rows, plain[:96:8]]
        for start in args.starts:
            adapter = read_adapter(adapter_file(Path("runs/train/mini", name)), start=start)
            drawn = base.sample(contents, adapters=[adapter])
            styled = in_style(encoder.encode_images(drawn), known, real).double().mean().item()
            kept = (scorer.guess(drawn) == labels).double().sum().item() / of_base.double().sum().item()
            print(f"| {name} | {start:g} | {styled:.0%} | {kept:.2f} | {len(drawn)} |", flush=True)
            rows.append(drawn[:96:8])
    if args.sheet:
        tile(torch.cat(rows), columns=12).save(args.sheet)


if __name__ == "__main__":
    main()
