"""Made-up tests for comparisons, and what `compare` prints of them."""

import re

import numpy as np

from stylelora.evaluation.compare import compare
from stylelora.records import Quantity
from tests.finished import write_finished

STYLE, OTHER = Quantity("style", "e", "ink"), Quantity("style", "e", "oil")
SCORE = Quantity("clip_score", "c")
LAST = "ink 0.6 + oil 0.4"


def own_loss(i):
    """Losses that are no multiple of the base's."""
    return 0.08 + 0.01 * (i % 3) * i / 4


def make(folder, gain, *, score=0.5, loss=0.8, base=0.2, **more):
    """A test whose condition is `gain` above the base, and removes 1 - loss of its loss; a blend comes last."""
    noise = np.random.default_rng(sum(map(ord, folder.name))).normal(0, 0.02, (20, 2))

    def condition(level, oil, own):
        of_style = {STYLE: lambda i, j: base + level + 0.01 * (i % 4) + own * noise[i, j]}
        of_style |= {OTHER: lambda i, j: 0.1 + oil + own * noise[i, j], SCORE: lambda i, j: score + own * noise[i, j]}
        return of_style

    conditions = {"base": condition(0, 0, 0), "ink 1": condition(gain, 0.001, 1), LAST: condition(0.6 * gain, 0.04, 1)}
    losses = {"base": lambda i: 0.1 + 0.01 * i, "ink 1": lambda i: loss * own_loss(i), LAST: lambda i: 0.1}
    return str(write_finished(folder, conditions, losses, seeds=2, **more))


def ink(*runs, **options):
    compare(list(runs), conditions=["ink 1"] * len(runs), **options)


def table(said):
    """Rows of the printed table by (kind, metric): first, this, difference, p, adjusted."""
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith(("| primary", "| explor"))]
    return {(kind, re.sub(r".*: ", "", key)): cells for kind, key, *cells in rows}


def number(cell):
    return float(cell.split(" ")[0].removeprefix("<"))
