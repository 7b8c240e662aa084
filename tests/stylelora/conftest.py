"""Fixtures of the tests of the package."""

import numpy as np
import pytest

from stylelora.data.cache import Cache
from stylelora.data.reading import read_picture
from tests.raw import THINGS, noise


@pytest.fixture
def read(tmp_path):
    """Write bytes to a file and read it: Reading, with `pixels`, int (H, W, 3)."""

    def write_and_read(data, name="a.png", **options):
        (tmp_path / name).write_bytes(data)
        reading = read_picture(tmp_path / name, **options)
        return reading, np.asarray(reading.image).astype(int)

    return write_and_read


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    for i in range(6):
        noise(i).save(folder / "sub" / f"{i}.png")
        (folder / "sub" / f"{i}.txt").write_text(f"zqx, a drawing of a {THINGS[i]}")
    return folder


@pytest.fixture
def cache(tiny_sd, tmp_path):
    return Cache(tmp_path / "cache", tiny_sd, "cpu")
