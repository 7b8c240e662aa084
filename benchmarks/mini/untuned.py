"""Two styles that no recipe was tuned to, made of the cartoons: `python -m benchmarks.mini.untuned`.

`blueprint` has white outlines on blue, `marker` thick black outlines around few colours. The base knows neither by
name. Beside them, `prior` has the base's own pictures of 103 things, for prior preservation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.mini.__main__ import style_pictures, things
from benchmarks.mini.base import Base
from stylelora.base.concepts import with_article
from stylelora.data.styles import STYLES


def edges(images: Tensor) -> Tensor:
    """Return how much the brightness of pictures, float (B, 3, H, W) in 0..1, changes at each pixel, (B, 1, H, W)."""
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (across.square() + down.square()).sqrt().clamp(0, 1)


def blueprint(images: Tensor) -> Tensor:
    """Draw white outlines on blue."""
    blue = torch.tensor([0.08, 0.2, 0.55]).view(1, 3, 1, 1)
    lines = (2.5 * edges(images)).clamp(0, 1)
    return blue + (1 - blue) * lines


def marker(images: Tensor) -> Tensor:
    """Draw thick black outlines around a few strong colours."""
    lines = F.max_pool2d((3 * edges(images)).clamp(0, 1), 3, 1, 1)
    return (images * 3).round() / 3 * (1 - lines)


MADE = {"blueprint": blueprint, "marker": marker}


def save(folder: Path, images: Tensor, captions: Sequence[str]) -> None:
    """Write pictures, uint8 (N, 3, H, W), with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (pixels, text) in enumerate(zip(images, captions, strict=True)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:03}.png")
        lines.append(json.dumps({"file_name": f"{number:03}.png", "text": text}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))


def main() -> None:
    """Write both styles, and the base's pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".cache/untuned"))
    folder = parser.parse_args().folder
    cartoons, captions = style_pictures(STYLES["cartoon"]), [row["text"] for row in STYLES["cartoon"].rows()]
    for name, drawn in MADE.items():
        save(folder / name, drawn(cartoons / 255).mul(255).round().to(torch.uint8), captions)
    contents = [with_article(name) for name in things()]
    save(folder / "prior", Base("mini").sample(contents, seed=5), contents)


if __name__ == "__main__":
    main()
