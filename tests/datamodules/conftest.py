"""Pictures for tests of what their shape decides."""

import numpy as np
import pytest
from PIL import Image

#: Width and height of the pictures of `shapes`, and how many; 128 px buckets are 64x192, 64x256, 128x128 and turned.
SHAPES = {(300, 300): 12, (400, 140): 10, (140, 400): 9, (500, 125): 2, (90, 200): 7, (100, 110): 8}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Folder of pictures of several shapes, dark on the left and light on the right."""
    folder = tmp_path_factory.mktemp("shapes")
    sizes = [size for size, count in SHAPES.items() for _ in range(count)]
    for i, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(i).integers(0, 100, (height, width, 3), dtype=np.uint8)
        pixels += np.linspace(0, 155, width).astype(np.uint8)[None, :, None]
        Image.fromarray(pixels).save(folder / f"{i}.bmp")
        (folder / f"{i}.txt").write_text(f"a shape with number {i}")
    return str(folder)
