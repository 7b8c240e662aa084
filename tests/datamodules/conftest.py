"""Pictures for tests of what their shape decides."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import StyleDataModule

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


@pytest.fixture
def prepare(tiny_sd, tmp_path):
    """Make a data module of a folder, prepared and set up as a trainer would."""

    def prepare(root, **options):
        options = {"trigger": "zqx", "resolution": 64, "batch_size": 2, "held_out": 0.4, **options}
        data = StyleDataModule(root=str(root), cache=str(tmp_path / "cache"), **options)
        data.trainer = SimpleNamespace(
            lightning_module=SimpleNamespace(
                base=str(tiny_sd), hparams=SimpleNamespace(clip_skip=1, guidance_scale=4.0, num_inference_steps=2)
            ),
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            world_size=1,
            global_rank=0,
            state=SimpleNamespace(fn="fit"),
        )
        data.prepare_data()
        data.setup("fit")
        return data

    return prepare
