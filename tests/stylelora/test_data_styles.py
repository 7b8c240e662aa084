"""The embedded style sets: readable, captioned without giving the style away, licensed, small, reproducible."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylelora.data.styles import STYLES
from stylelora.pretraining import style_sets

LIMIT_BYTES = 4 * 2**20
STYLE_WORDS = re.compile(
    r"\b(water-?colou?rs?|cartoons?|animes?|manga|pixel\w*|styles?|paint\w*|drawings?|drawn|sketch\w*|icons?|emojis?"
    r"|kawaii|sprites?|tiles?|8-bit|16-bit|\w*style|sks)\b|[<>]",
    re.IGNORECASE,
)
CACHE = Path(__file__).parents[2] / ".cache" / "npm"


def read(style: str) -> list[dict[str, str]]:
    """One style's list of pictures, parsed without the code under test."""
    lines = (STYLES[style].folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("style", STYLES)
def test_pictures_open_as_rgb(style: str) -> None:
    side = {"pixelart": 16, "pixelart32": 32}.get(style, 128)
    for line in read(style):
        with Image.open(STYLES[style].folder / line["file_name"]) as picture:
            picture.load()
            assert (picture.mode, picture.size) == ("RGB", (side, side)), line


@pytest.mark.parametrize("style", STYLES)
def test_listed_pictures_are_those_in_the_folder(style: str) -> None:
    listed = [line["file_name"] for line in read(style)]
    present = sorted(path.name for path in STYLES[style].folder.iterdir() if path.suffix in (".png", ".jpg"))
    assert listed == present
    assert 60 <= len(listed) <= 100


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_the_content_only(style: str) -> None:
    for line in read(style):
        assert set(line) == {"file_name", "text", "source"}
        assert line["text"] and line["text"] == line["text"].strip() and line["source"]
        assert not STYLE_WORDS.search(line["text"]), line


@pytest.mark.parametrize("style", STYLES)
def test_licence_comes_along(style: str) -> None:
    text = (STYLES[style].folder / "LICENSE.txt").read_text(encoding="utf-8")
    assert re.search(r"MIT License|Expat|CC0 1\.0|CC BY 4\.0|CC BY-SA 3\.0", text)
    assert "https://" in text and "Changes:" in text


def test_all_sets_are_small() -> None:
    files = [path for style in STYLES for path in STYLES[style].folder.iterdir()]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES


def test_no_picture_twice() -> None:
    paths = [STYLES[style].folder / line["file_name"] for style in STYLES for line in read(style)]
    pixels = [Image.open(path).tobytes() for path in paths]
    assert len({hashlib.sha256(data).digest() for data in pixels}) == len(paths)


def test_watercolor_is_rebuilt_alike() -> None:
    pytest.importorskip("resvg_py", reason="rendering icons needs the extra `mini`")
    line = read("watercolor")[0]
    name, version = line["source"].split(" ")[0].rsplit("@", 1)
    if not (CACHE / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz").is_file():
        pytest.skip(f"the npm archive of {name} is not in {CACHE.relative_to(CACHE.parents[1])}")
    stored = io.BytesIO()
    style_sets.draw_watercolor(line["source"], CACHE).save(stored, "JPEG", **style_sets.WRITING[".jpg"])
    pair = [Image.open(stored), Image.open(STYLES["watercolor"].folder / line["file_name"])]
    again, kept = (np.asarray(picture).astype(float) for picture in pair)
    # Room for another version of the JPEG coder or renderer; another painting of the icon differs by more than 5.
    assert np.abs(again - kept).mean() < 0.5


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown style 'oil'"):
        style_sets.build("oil", CACHE)


def test_missing_source_is_named() -> None:
    with pytest.raises(ValueError, match="needs --crawl"):
        style_sets.build("pixelart32", CACHE)


def test_pixel_art_of_32_reads_tiles_from_a_folder(tmp_path: Path) -> None:
    tile = tmp_path / "game" / "source" / "rltiles" / "a.png"
    tile.parent.mkdir(parents=True)
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tile)
    drawn = style_sets.draw_tile("crawl-0.28.0 rltiles/a.png", tmp_path)
    assert drawn.size == (32, 32) and drawn.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(FileNotFoundError):
        style_sets.draw_tile("crawl-0.28.0 rltiles/b.png", tmp_path)


def test_pixel_art_of_16_reads_items_from_a_folder(tmp_path: Path) -> None:
    item = tmp_path / "games" / "minetest_game" / "mods" / "a" / "textures" / "b.png"
    item.parent.mkdir(parents=True)
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.putpixel((3, 4), (200, 10, 20, 255))
    picture.save(item)
    drawn = style_sets.draw_item("minetest-5.6.1 a/textures/b.png", tmp_path)
    assert (
        drawn.size == (16, 16) and drawn.getpixel((0, 0)) == (255, 255, 255) and drawn.getpixel((3, 4)) == (200, 10, 20)
    )
    with pytest.raises(FileNotFoundError, match="minetest-data"):
        style_sets.draw_item("minetest-5.6.1 a/textures/c.png", tmp_path)
