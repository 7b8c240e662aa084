"""Unlabelled sheets for a blind naming of styles and things: `python -m benchmarks.mini.blind --output blind`.

Five sheets of twelve things, base and four styles in shuffled order (A.png ...), and a sheet for each pair of styles
blended 0.6 to 0.4 (1.png ...). `blind.key.json` beside the folder says what they are: readers must not see it.
"""

from __future__ import annotations

import argparse
import json
import random
from itertools import combinations
from pathlib import Path

from PIL import Image

from benchmarks.mini.base import TRAINED, Base
from stylelora.base.concepts import load_concepts, with_article
from stylelora.data.images import tile
from stylelora.lora.read import read_adapter
from stylelora.runs.folder import adapter_file


def main() -> None:
    """Draw the sheets and their key."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("blind"), help="folder of the sheets")
    parser.add_argument("--adapters", type=Path, default=Path("runs/train/mini"), help="folder of the four style runs")
    parser.add_argument("--seed", type=int, default=0, help="shuffles sheets, things and noise")
    args = parser.parse_args()
    rng, base, key = random.Random(args.seed), Base("mini"), {}
    adapters = {style: read_adapter(adapter_file(args.adapters / style)) for style in TRAINED}
    names = list(load_concepts().values())[1::3]
    single, pairs = [(), *((style,) for style in TRAINED)], list(combinations(TRAINED, 2))
    rng.shuffle(single)
    rng.shuffle(pairs)
    args.output.mkdir(parents=True)
    for sheet, styles in (*zip("ABCDE", single, strict=True), *zip("123456", pairs, strict=True)):
        things, seed = rng.sample(names, 12), rng.randrange(1000)
        weights = (0.6, 0.4) if len(styles) == 2 else None
        chosen = [adapters[style] for style in styles]
        images = base.sample([with_article(name) for name in things], seed, adapters=chosen, weights=weights)
        grid = tile(images, columns=4)
        grid.resize((grid.width * 2, grid.height * 2), Image.Resampling.NEAREST).save(args.output / f"{sheet}.png")
        key[sheet] = {"styles": styles, "things": things, "seed": seed}
    args.output.with_name(f"{args.output.name}.key.json").write_text(json.dumps(key, indent=1) + "\n")


if __name__ == "__main__":
    main()
