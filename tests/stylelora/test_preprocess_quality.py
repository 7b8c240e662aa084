"""Native grid, sharpness and enlargement."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from stylelora.data.styles import STYLES
from stylelora.preprocess.quality import Grid, enlargement, native_grid, sharpness, to_native

TILES = [Image.open(path).convert("RGB") for path in sorted(STYLES["pixelart32"].folder.glob("*.png"))[:60:6]]
SMOOTH = [
    Image.open(path).convert("RGB")
    for style in ("anime", "cartoon", "watercolor")
    for path in sorted(STYLES[style].folder.iterdir())[:8]
    if path.suffix in (".jpg", ".png")
]
Y, X = np.mgrid[:256, :256]


def enlarged(image, factor, kernel=Image.Resampling.NEAREST):
    return image.resize((image.width * factor, image.height * factor), kernel)


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def crop_of(tile, factor, left, top, right, bottom):
    """Enlarge, cut pixels off each border, and say what grid and native pixels are left."""
    big = enlarged(tile, factor)
    cut = big.crop((left, top, big.width - right, big.height - bottom))
    first = (-(-left // factor), -(-top // factor))
    last = ((big.width - right) // factor, (big.height - bottom) // factor)
    grid = Grid(factor, (-left % factor, -top % factor), (last[0] - first[0], last[1] - first[1]))
    return cut, grid, tile.crop((*first, *last))


@pytest.mark.parametrize("factor", [2, 3, 4, 7, 16, 31, 64])
def test_the_grid_of_any_factor_and_phase(factor):
    rng = np.random.default_rng(factor)
    for tile in TILES[:3]:
        cut, grid, native = crop_of(tile, factor, *rng.integers(0, 4 * factor, 4).tolist())
        assert native_grid(cut) == grid
        assert to_native(cut, grid).tobytes() == native.tobytes()
        assert native_grid(cut.quantize(256, dither=Image.Dither.NONE)) == grid


def test_the_grid_of_sixteen_pixels_is_found_where_enough_of_it_shows_and_never_a_wrong_one():
    tiles = [Image.open(path).convert("RGB") for path in sorted(STYLES["pixelart"].folder.glob("*.png"))]
    found = [native_grid(enlarged(tile, 8)) for tile in tiles]
    assert {grid for grid in found if grid} == {Grid(8, (0, 0), (16, 16))}
    assert sum(grid is not None for grid in found) >= 80  # of 99; flames, bars and the like have too few edges


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("factor", [3, 8, 11, 16])
def test_the_grid_under_compression_noise(factor, quality):
    for tile in TILES:
        cut, grid, native = crop_of(tile, factor, 5, 2, 7, factor)
        cut = jpeg(cut, quality)
        assert native_grid(cut) == grid
        error = np.asarray(to_native(cut, grid), dtype=float) - np.asarray(native)
        assert np.sqrt((error**2).mean()) < 16


def test_a_grid_with_faint_details_is_not_taken_for_a_wider_one():
    pixels = np.asarray(enlarged(TILES[0], 2)).copy()
    pixels[8, 8] ^= 1
    assert native_grid(enlarged(Image.fromarray(pixels), 5)).cell == 5


def test_grain_on_flat_cells_does_not_matter():
    rng = np.random.default_rng(0)
    cells = np.asarray(enlarged(TILES[2], 16)).astype(int)
    grain = Image.fromarray((cells // 2 + 60 + rng.integers(-7, 8, (512, 512, 1))).astype(np.uint8))
    assert native_grid(grain) == Grid(16, (0, 0), (32, 32))
    spots = np.where(rng.random((512, 512, 1)) < 0.2, rng.integers(0, 256, cells.shape), cells).astype(np.uint8)
    assert to_native(Image.fromarray(spots), Grid(16, (0, 0), (32, 32))).tobytes() == TILES[2].tobytes()


@pytest.mark.parametrize("tile", TILES)
def test_native_pixel_art_has_no_grid(tile):
    assert native_grid(tile) is None


@pytest.mark.parametrize("kernel", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_smooth_enlargements_have_no_grid(factor, kernel):
    for image in (*TILES, *SMOOTH):
        assert native_grid(enlarged(image, factor, kernel)) is None


def test_an_enlargement_that_is_no_whole_factor_has_no_grid():
    assert native_grid(TILES[0].resize((144, 144), Image.Resampling.NEAREST)) is None


def drawing(*shapes):
    image = Image.new("RGB", (512, 512), "white")
    for name, box, options in shapes:
        getattr(ImageDraw.Draw(image), name)(box, **options)
    return image


NOTHING = {
    "flat": Image.new("RGB", (256, 256), "red"),
    "one pixel": Image.new("RGB", (1, 1)),
    "noise": Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)),
    "ramp": Image.fromarray(X.astype(np.uint8)),
    "gradient": Image.fromarray((X / 2 + Y / 3).astype(np.uint8)),
    "stripes": Image.fromarray((X // 4 % 2 * 255).astype(np.uint8)),
    "frame": drawing(("rectangle", (64, 64, 447, 447), {"outline": "black", "width": 64})),
    "table": drawing(
        *[("line", (at, 0, at, 511), {"fill": "black", "width": 2}) for at in (21, 63, 133)],
        *[("line", (0, at, 511, at), {"fill": "black", "width": 2}) for at in (35, 91, 201)],
    ),
    "rectangles": drawing(
        ("rectangle", (32, 64, 95, 191), {"fill": "red"}), ("rectangle", (64, 16, 223, 127), {"fill": "blue"})
    ),
    "flat vector graphics": drawing(
        ("ellipse", (20, 30, 200, 150), {"fill": "red", "outline": "black", "width": 4}),
        ("line", (0, 10, 255, 190), {"fill": "blue", "width": 3}),
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_pixel_art_has_no_grid(name):
    assert native_grid(NOTHING[name]) is None
    assert native_grid(jpeg(NOTHING[name], 85)) is None


def test_sharpness_is_the_variance_of_the_laplacian():
    image = SMOOTH[0]
    grey = np.pad(np.asarray(image.convert("L"), dtype=float), 1, mode="edge")
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert sharpness(image) == pytest.approx(laplacian.var(), rel=1e-4)
    assert sharpness(NOTHING["flat"]) == sharpness(NOTHING["one pixel"]) == 0


def test_sharpness_falls_with_blur_and_not_with_size():
    for image in SMOOTH:
        values = [sharpness(image.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
        assert values == sorted(values, reverse=True)
        assert values[0] > 100 > values[2]
    scene = enlarged(SMOOTH[0], 4, Image.Resampling.BICUBIC)
    assert sharpness(enlarged(scene, 2, Image.Resampling.BICUBIC)) == pytest.approx(sharpness(scene), rel=0.2)


@pytest.mark.parametrize(
    ("size", "factor"), [((256, 512), 2.0), ((512, 512), 1.0), ((4000, 600), 1.0), ((300, 100), 5.12)]
)
def test_enlargement_is_of_the_shorter_side(size, factor):
    assert enlargement(size, 512) == factor
