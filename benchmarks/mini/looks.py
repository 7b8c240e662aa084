"""Does the base draw every look by its name? `python -m benchmarks.mini.looks --base runs/mini/stage2d`.

Judge: the style encoder's nearest mean, over real icons in each look after the autoencoder, among all looks and plain.
Things are named by the scorer, which was trained on few of these looks: compare with what it names of real icons.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.mini.base import Base
from benchmarks.mini.judges import Scorer, icons
from stylelora.base.concepts import load_concepts, with_article
from stylelora.data.images import tile
from stylelora.metrics.style import StyleEncoder
from stylelora.pretraining.icon_table import TRAIN_SETS
from stylelora.pretraining.looks import LOOKS, drawn_in


def real_pictures(base: Base, root: Path, look: str | None, count: int) -> tuple[Tensor, Tensor]:
    """Return icons in a look after the base's autoencoder, uint8 (count, 3, 64, 64), and their concepts' indices."""
    pictures, label = icons(TRAIN_SETS, root)
    pick = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))[:count]
    images = (drawn_in(pictures[pick].float() / 255, [look] * count) * 255).round().to(torch.uint8)
    return base.reconstruct(images), label[pick]


def main() -> None:
    """Generate, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--root", type=Path, default=Path(".cache/npm"), help="folder of the fetched icon sets")
    parser.add_argument("--things", type=int, default=20, help="things drawn in each look")
    parser.add_argument("--sheet", type=Path, help="PNG to write: a row for each look")
    args = parser.parse_args()
    base, encoder, scorer = Base(args.base), StyleEncoder(), Scorer()
    names = list(load_concepts().values())
    chosen = torch.linspace(0, len(names) - 1, args.things).long()
    looks, means, real_named = [None, *LOOKS], [], []
    for look in looks:
        pictures, label = real_pictures(base, args.root, look, 128)
        means.append(F.normalize(encoder.encode_images(pictures), dim=1).mean(0))
        real_named.append((scorer.guess(pictures) == label).double().mean().item())
    means = F.normalize(torch.stack(means), dim=1)
    forms = {look: f"{with_article(look)} picture of {{}}" if look else "{}" for look in looks}
    forms["made-up word"] = "wqstyle, {}"
    print("| look | judged in it | thing named by the scorer | ... of real icons in it | n |\n|---|---|---|---|---|")
    rows = []
    for number, (look, form) in enumerate(forms.items()):
        images = base.sample([form.format(with_article(names[i])) for i in chosen], seed=4)
        number = number if number < len(looks) else 0
        judged = (encoder.encode_images(images) @ means.T).argmax(1) == number
        named = (scorer.guess(images) == chosen).double().mean().item()
        share, of_real = judged.double().mean().item(), real_named[number]
        print(f"| {look or 'plain'} | {share:.0%} | {named:.0%} | {of_real:.0%} | {len(images)} |", flush=True)
        rows.append(images)
    if args.sheet:
        tile(torch.cat(rows), columns=args.things).save(args.sheet)


if __name__ == "__main__":
    main()
