"""A raw folder and what preprocess makes of it."""

import json

import numpy as np
from PIL import Image

from stylelora.preprocess.preprocess import preprocess
from stylelora.preprocess.problems import Limits

THINGS = ("cat", "red boat", "house", "tree", "apple", "robot")


def noise(seed, size=(96, 80)):
    """A sharp picture unlike any other."""
    blocks = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def call_of(raw, **options):
    given = {
        "source": str(raw),
        "output": str(raw.parent / "data"),
        "style": "zebra",
        "trigger": "zqx",
        "resolution": 64,
        "limits": Limits(sharpness=3.0),
        "workers": 1,
    }
    return given | {"remove": ["a drawing of"], **options}


def run(raw, **options):
    preprocess(**call_of(raw, **options))
    return raw.parent / "data"


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def census(folder):
    return {row["source"]: row for row in json.loads((folder / "census.json").read_text())["files"]}


def pictures(folder):
    return [row for row in census(folder).values() if row["file_name"]]
