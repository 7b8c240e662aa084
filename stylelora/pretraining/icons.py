"""Openly licensed vector icon sets from the npm registry: fetch, read, render.

Only needed to rebuild what is embedded (the base "mini" and two of the style sets); training and
sampling never use it. Rendering needs the extra `mini` (resvg-py).
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from PIL import Image


def fetch_npm(package: str, cache: Path | str) -> Path:
    """Download an npm package archive, unless cached.

    Args:
        package: name with exact version, such as `@iconify-json/noto@1.2.9`.
        cache: folder that keeps the `.tgz`.

    Returns:
        path of the archive.

    Raises:
        RuntimeError: if npm is missing or the registry cannot be reached.
    """
    name, version = package.rsplit("@", 1)
    path = Path(cache) / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if path.is_file():
        return path
    if shutil.which("npm") is None:
        raise RuntimeError(f"npm is needed to fetch {package}; install Node.js or put {path.name} into {cache}")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=path.parent, capture_output=True, text=True)
    if done.returncode or not path.is_file():
        raise RuntimeError(f"npm could not fetch {package}: {done.stderr.strip() or done.stdout.strip()}")
    return path


def read_member(archive: Path, member: str) -> bytes:
    """Read one file of an npm archive (`member` is relative to `package/`)."""
    with tarfile.open(archive) as tar:
        return tar.extractfile(f"package/{member}").read()


@functools.lru_cache(maxsize=4)
def load_icon_set(archive: Path) -> dict[str, str]:
    """Read an iconify archive.

    Returns:
        slug -> SVG text. The slug is the icon's CLDR-like name, the same key in every emoji set.
    """
    icons = json.loads(read_member(archive, "icons.json"))
    default = (icons.get("width", 16), icons.get("height", 16))
    svgs = {}
    for slug, icon in icons["icons"].items():
        width, height = icon.get("width", default[0]), icon.get("height", default[1])
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svgs[slug] = f'{head} viewBox="{box}">{icon["body"]}</svg>'
    return svgs


def render(svg: str, size: int, background: tuple[int, int, int] | None = (255, 255, 255)) -> Image.Image:
    """Render an SVG into a square image.

    Args:
        svg: SVG text with a viewBox.
        size: side in pixels; the drawing is fitted and centred.
        background: RGB 0..255 below the drawing; None keeps the alpha channel (RGBA).
    """
    import io

    import resvg_py

    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size)))).convert("RGBA")
    if drawn.height > size:
        drawn = drawn.resize((round(drawn.width * size / drawn.height), size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size), (*background, 255) if background else (0, 0, 0, 0))
    canvas.alpha_composite(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return canvas.convert("RGB") if background else canvas
