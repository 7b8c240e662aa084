"""The file with the real weights is not here: a stand-in of the same interface shows what reaches the network."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from stylelora.metrics.inception import Inception
from stylelora.records import InputError

STEP = 130  # 3 * 299 * 299 // 2048: every so many-th pixel


class Layers(nn.Module):
    """Return some of the pixels it gets, as (B, width, 1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :: 3 * 299 * 299 // self.width][:, : self.width, None, None]


class Network(nn.Module):
    """`layers` behind the call that clean-fid leaves alone: the whole network resizes by itself."""

    def __init__(self, width: int = 2048) -> None:
        super().__init__()
        self.layers = Layers(width)

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        return self.layers(F.interpolate(img, size=[299, 299])).flatten(1) * 0


@pytest.fixture
def save(tmp_path):
    def write(module, name="inception-2015-12-05.pt"):
        torch.jit.script(module).save(tmp_path / name)
        return tmp_path / name

    return write


def noise(*shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("height, width", [(512, 512), (64, 96), (299, 299)])
def test_the_network_sees_antialiased_bicubic_neither_rounded_nor_clipped(save, height, width):
    """Reference: torch's own antialiased bicubic, the same filter by other code."""
    images = noise(2, 3, height, width)
    got = Inception(save(Network())).encode_images(images)
    assert got.shape == (2, 2048)
    assert got.dtype == torch.float32
    resized = F.interpolate(images.float(), size=(299, 299), mode="bicubic", antialias=True)
    want = resized.flatten(1)[:, ::STEP][:, :2048]
    assert torch.allclose(got * 128 + 128, want, atol=0.02)
    if height == 64:
        assert (want - want.round()).abs().max() > 0.4
        assert want.min() < -1
        assert want.max() > 256


def test_pil_images_of_any_size_and_tensors_mean_the_same(save):
    inception = Inception(str(save(Network())))
    images = noise(3, 3, 40, 50, seed=1)
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in images]
    want = inception.encode_images(images)
    assert torch.equal(inception.encode_images(pictures), want)
    mixed = inception.encode_images([pictures[0], Image.new("L", (70, 20), 128), pictures[2]])
    assert torch.equal(mixed[[0, 2]], want[[0, 2]])
    assert torch.allclose(mixed[1], torch.zeros(2048), atol=1e-6)  # 128 becomes 0
    assert inception.encode_images([]).shape == (0, 2048)


def test_parts_change_no_value_and_the_name_is_the_files(save, monkeypatch):
    inception = Inception(save(Network()))
    images = noise(5, 3, 32, 32, seed=2)
    want = inception.encode_images(images)
    monkeypatch.setattr("stylelora.metrics.inception.CHUNK", 2)
    assert torch.equal(inception.encode_images(images), want)
    assert inception.name == "inception-2015-12-05"


def test_autocast_around_it_changes_no_value(save):
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.AvgPool2d(13), nn.Flatten(), nn.Linear(3 * 23 * 23, 2048))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        inception = Inception(save(Product()))
    images = noise(2, 3, 32, 32, seed=3)
    want = inception.encode_images(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inception.encode_images(images), want)
    assert not want.requires_grad


def test_what_is_not_the_network_is_refused(save, tmp_path):
    (tmp_path / "text.pt").write_text("not a network")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    bad = [
        tmp_path / "absent.pt",
        tmp_path,
        tmp_path / "text.pt",
        tmp_path / "weights.pt",
        save(nn.ReLU(), "no_layers.pt"),
        save(Network(64), "narrow.pt"),
    ]
    for path in bad:
        with pytest.raises(InputError, match=r"inception-2015-12-05\.pt"):
            Inception(path)


@pytest.mark.parametrize("images", [torch.rand(2, 3, 8, 8), noise(2, 1, 8, 8), noise(3, 8, 8), ["a.png"]])
def test_pictures_that_could_be_read_in_two_ways_are_refused(save, images):
    with pytest.raises(InputError):
        Inception(save(Network())).encode_images(images)
