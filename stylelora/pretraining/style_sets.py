"""Redraw the embedded style pictures from the openly licensed works they come from.

`metadata.jsonl` in each style's folder is written by hand: one line per picture with its file, its caption and its
`source`. This module turns each `source` back into the picture, so a rebuild gives the same pixels:

    python -m stylelora.pretraining.style_sets --style watercolor
    python -m stylelora.pretraining.style_sets --style cartoon
    python -m stylelora.pretraining.style_sets --style pixelart --minetest usr/share/games/minetest
    python -m stylelora.pretraining.style_sets --style pixelart32 --crawl crawl_0.28.0.orig.tar.xz
    python -m stylelora.pretraining.style_sets --style anime --renpy usr/share/games/renpy

Where the originals are:

* watercolor, cartoon: npm packages, fetched into `--cache` (needs `npm` and the extra `mini` for rendering);
* pixelart: the Debian package `minetest-data` 5.6.1 (`apt-get download`, then `dpkg-deb -x PACKAGE.deb .`), given as
  the `usr/share/games/minetest` folder inside;
* pixelart32: the Debian source package `crawl` 0.28.0 (`apt-get source --download-only crawl`), given as its
  `.orig.tar.xz` or as the unpacked folder;
* anime: the Debian packages `renpy-thequestion` and `renpy-demo` 8.0.3 (`apt-get download`, then
  `dpkg-deb -x PACKAGE.deb .`), given as the `usr/share/games/renpy` folder inside.

What a `source` looks like (the first word names the work):

* `@iconify-json/fluent-emoji-flat@1.2.6 cat`: package and icon;
* `minetest-5.6.1 default/textures/default_apple.png`: file below `games/minetest_game/mods/`;
* `crawl-0.28.0 rltiles/mon/animals/bat.png`: file below `source/`;
* `renpy-8.0.3 sylvie blue smile | uni | bust | mirrored`: sprite, background (a file's name or `#rrggbb`),
  framing, then any of `mirrored` and `hair=HUE` (0..255, recolours the hair);
* `renpy-8.0.3 concert1 | 1080,60,800`: a square cut (left, top, side) from a full picture.
"""

from __future__ import annotations

import argparse
import functools
import io
import tarfile
import zlib
from pathlib import Path

from PIL import Image

from stylelora.data.styles import STYLES
from stylelora.pretraining import icons
from stylelora.pretraining.watercolor import paint

SIDE = 128
# Paper grain and photo-like backgrounds would be three times as large in PNG.
WRITING = {".png": {"optimize": True}, ".jpg": {"quality": 92, "subsampling": 0}}
WHITE = (255, 255, 255, 255)
# Head of each sprite as (centre x, top of the hair, chin) in the sprite's own pixels; framing is measured from it.
HEADS = {
    "sylvie blue": (155, 5, 175),
    "sylvie green": (188, 6, 170),
    "eileen": (158, 10, 258),
    "lucy happy": (212, 55, 248),
    "lucy mad": (240, 100, 315),
}
# Framing as (side of the square, space above the hair), both in head heights; "full" shows the whole sprite.
FRAMES = {"face": (1.25, 0.06), "close-up": (1.6, 0.16), "bust": (2.0, 0.2), "half body": (2.9, 0.25)}
HAIR = (235, 22, 90)  # hue from, hue to (through 0), least saturation of the reddish hair that `hair=` recolours


def draw_icon(source: str, cache: Path) -> Image.Image:
    """Render the icon that a `source` names, with its alpha channel."""
    package, slug = source.split(" ")
    return icons.render(icons.load_icon_set(icons.fetch_npm(package, cache))[slug], 256, None)


def draw_watercolor(source: str, cache: Path) -> Image.Image:
    """Paint an icon in watercolour; seeded by the source, so that adding pictures leaves the others unchanged."""
    return paint(draw_icon(source, cache), zlib.crc32(source.encode()), SIDE)


def draw_cartoon(source: str, cache: Path) -> Image.Image:
    """Render an outlined icon on white."""
    return on_white(draw_icon(source, cache)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def on_white(picture: Image.Image) -> Image.Image:
    """Composite a transparent picture onto white."""
    picture = picture.convert("RGBA")
    canvas = Image.new("RGBA", picture.size, WHITE)
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")


def draw_item(source: str, minetest: Path) -> Image.Image:
    """Load a texture of Minetest at native resolution, on white."""
    file = minetest / "games/minetest_game/mods" / source.split(" ", 1)[1]
    if not file.is_file():
        raise FileNotFoundError(f"no {file}; is --minetest the usr/share/games/minetest folder of minetest-data 5.6.1?")
    return on_white(Image.open(file))


def draw_tile(source: str, crawl: Path) -> Image.Image:
    """Load a game tile at native resolution, on white."""
    tile = source.split(" ", 1)[1]
    if not crawl.is_dir():
        return on_white(Image.open(io.BytesIO(read_tiles(crawl)[tile])))
    found = sorted(crawl.glob(f"**/source/{tile}"))
    if not found:
        raise FileNotFoundError(f"no {tile} below {crawl}; is it the folder of crawl 0.28.0?")
    return on_white(Image.open(found[0]))


@functools.lru_cache(maxsize=1)
def read_tiles(archive: Path) -> dict[str, bytes]:
    """All tiles of the game's source archive by path below `source/`; one pass, as seeking in it is slow."""
    with tarfile.open(archive) as tar:
        tiles = (m for m in tar if "/source/rltiles/" in m.name and m.name.endswith(".png"))
        return {m.name.split("/source/", 1)[1]: tar.extractfile(m).read() for m in tiles}


def draw_anime(source: str, renpy: Path) -> Image.Image:
    """Compose a character on a background, or cut a square out of a full picture."""
    name, *parts = [part.strip() for part in source.split(" ", 1)[1].split("|")]
    if len(parts) == 1:
        left, top, side = (int(number) for number in parts[0].split(","))
        scene = Image.open(find_image(renpy, name)).convert("RGB").crop((left, top, left + side, top + side))
    else:
        sprite = Image.open(find_image(renpy, name)).convert("RGBA")
        scene = compose(sprite, name, renpy, *parts)
    return scene.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def find_image(renpy: Path, name: str) -> Path:
    """Find a picture of the two games by its name without extension."""
    found = sorted(path for path in renpy.glob("*/game/images/*.*") if path.stem == name)
    if not found:
        raise FileNotFoundError(f"no picture '{name}' below {renpy}; is it the usr/share/games/renpy folder?")
    return found[0]


def compose(sprite: Image.Image, name: str, renpy: Path, place: str, frame: str, *changes: str) -> Image.Image:
    """Cut a framing out of a sprite, over a background."""
    x, top, chin = next(head for start, head in HEADS.items() if name.startswith(start))
    for change in changes:
        if change.startswith("hair="):
            sprite = recolour_hair(sprite, int(change.removeprefix("hair=")), chin)
    side, upper = sprite.height, 0
    if frame != "full":
        size, above = FRAMES[frame]
        side = min(round(size * (chin - top)), sprite.height)
        upper = min(round(top - above * (chin - top)), sprite.height - side)  # below its last row a sprite is cut off
    left = x - side // 2
    scene = background(place, renpy, side)
    scene.paste(sprite, (-left, -upper), sprite)
    if "mirrored" in changes:
        scene = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return scene


def background(place: str, renpy: Path, side: int) -> Image.Image:
    """A square of plain colour, or the middle of a background picture."""
    if place.startswith("#"):
        return Image.new("RGB", (side, side), place)
    picture = Image.open(find_image(renpy, f"bg {place}")).convert("RGB")
    left = (picture.width - picture.height) // 2
    square = picture.crop((left, 0, left + picture.height, picture.height))
    return square.resize((side, side), Image.Resampling.LANCZOS)


def recolour_hair(sprite: Image.Image, hue: int, chin: int) -> Image.Image:
    """Turn reddish hair to another hue; light and shade stay.

    Only strongly coloured pixels above the neck are hair: skin is much paler. The mouth lies low between the eyes
    and is kept by sparing the middle of the lower face.
    """
    import numpy as np

    pixels = np.array(sprite.convert("RGB").convert("HSV"))
    y, x = np.mgrid[0 : sprite.height, 0 : sprite.width]
    centre = HEADS["eileen"][0]
    mouth = (abs(x - centre) < 30) & (y > chin - 40)
    reddish = (pixels[..., 0] > HAIR[0]) | (pixels[..., 0] < HAIR[1])
    hair = reddish & (pixels[..., 1] > HAIR[2]) & (y < chin + 30) & ~mouth
    pixels[..., 0] = np.where(hair, hue, pixels[..., 0])
    done = Image.merge("HSV", [Image.fromarray(pixels[..., k]) for k in range(3)]).convert("RGB")
    done.putalpha(sprite.getchannel("A"))
    return done


#: How the pictures of each style are drawn, and from which of the works given to `build`.
DRAWN = {
    "watercolor": (draw_watercolor, "cache"),
    "cartoon": (draw_cartoon, "cache"),
    "pixelart": (draw_item, "minetest"),
    "pixelart32": (draw_tile, "crawl"),
    "anime": (draw_anime, "renpy"),
}


def build(style: str, cache: Path, **works: Path | None) -> list[Path]:
    """Redraw every picture of one style into its folder.

    Args:
        style: one of DRAWN.
        cache: folder of the npm archives.
        **works: `minetest`, folder of Minetest (pixelart); `crawl`, source archive or folder of Dungeon Crawl Stone
            Soup (pixelart32); `renpy`, folder of the Ren'Py games (anime).

    Returns:
        the files written.

    Raises:
        ValueError: if the style is unknown or the works it needs are not given.
    """
    if style not in DRAWN:
        raise ValueError(f"unknown style {style!r}; those that can be redrawn are {', '.join(DRAWN)}")
    draw, work = DRAWN[style]
    works["cache"] = cache
    if works.get(work) is None:
        raise ValueError(f"style {style} needs --{work}")
    written = []
    for row in STYLES[style].rows():
        path = STYLES[style].folder / row["file_name"]
        draw(row["source"], works[work]).save(path, **WRITING[path.suffix])
        written.append(path)
    return written


def main() -> None:
    """Command line: redraw one style."""
    parser = argparse.ArgumentParser(description="Redraw the embedded pictures of one style.")
    parser.add_argument("--style", required=True, choices=DRAWN)
    parser.add_argument("--cache", type=Path, default=Path(".cache/npm"), help="folder of the npm archives")
    parser.add_argument("--minetest", type=Path, help="the usr/share/games/minetest folder of the package")
    parser.add_argument("--crawl", type=Path, help="crawl_0.28.0.orig.tar.xz, or the folder it unpacks to")
    parser.add_argument("--renpy", type=Path, help="the usr/share/games/renpy folder of the two packages")
    args = parser.parse_args()
    written = build(args.style, args.cache, minetest=args.minetest, crawl=args.crawl, renpy=args.renpy)
    print(f"{len(written)} pictures, {sum(path.stat().st_size for path in written) // 1024} KiB")


if __name__ == "__main__":
    main()
