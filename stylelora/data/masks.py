"""Masks: where in its picture the loss counts, white for wholly, black for not at all."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stylelora.data.cache import Cache, View, read, write
from stylelora.data.reading import SUFFIXES, picture_bytes, read_picture
from stylelora.data.scan import upright_size
from stylelora.data.unicode import alike
from stylelora.distributed import gather_objects
from stylelora.files import files_below
from stylelora.records import InputError, Picture, some

log = logging.getLogger(__name__)
ALPHA = "alpha"


class Masks:
    """Masks of pictures, at the size of their latents.

    Args:
        source: `alpha`, the pictures' own alpha channel; or a folder of mask pictures that are named as theirs, with
            any suffix. A picture of a sub-folder may have its mask in one of the same name.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: dict[Path, tuple[Path, str]] = {}  # picture -> file that holds its mask, and what it is

    def scan(self, root: Path, pictures: Sequence[Picture]) -> None:
        """Find the mask of each picture.

        Args:
            root: folder of the pictures.
            pictures: pictures in it, or in its sub-folders.

        Raises:
            InputError: if there is no such folder, or masks are missing, ambiguous or of another size than their
                pictures; names them.
        """
        if self.source == ALPHA:
            self._found = {picture.path: (picture.path, f"{ALPHA} {picture.sha256}") for picture in pictures}
            return
        folder, there = Path(self.source), defaultdict(list)
        if not folder.is_dir():
            raise InputError(f"data.masks is {self.source}, but there is no such folder; give one of masks, or {ALPHA}")
        for file in files_below(folder):
            if file.suffix.lower() in SUFFIXES:
                there[alike(file.relative_to(folder).with_suffix(""))].append(file)
        names = {one: alike(one.path.relative_to(root)) for one in pictures}
        chosen = {one: there.get(name.with_suffix("")) or there.get(Path(name.stem)) for one, name in names.items()}
        if missing := [str(names[picture]) for picture, files in chosen.items() if not files]:
            raise InputError(
                f"{folder} has no mask for {len(missing)} of {len(pictures)} pictures ({some(missing)}); a mask has "
                "its picture's name, with any suffix, and a white one lets the whole picture count"
            )
        if twice := [f"{files[0].name} and {files[1].name}" for files in chosen.values() if len(files) > 1]:
            raise InputError(f"{folder} has two masks for one picture ({some(twice)}); remove one of them")
        if shared := [file.name for file, n in Counter(file for (file,) in chosen.values()).items() if n > 1]:
            raise InputError(
                f"masks in {folder} would be those of several pictures ({some(shared)}); put them into sub-folders "
                "named like the pictures'"
            )
        self._found = {picture.path: (file, _grey(picture, file)) for picture, (file,) in chosen.items()}

    @property
    def sources(self) -> dict[Path, str]:
        """Return of each picture what its mask is, with a hash."""
        return {path: what for path, (_, what) in self._found.items()}

    def prepare(self, cache: Cache, wanted: Iterable[tuple[Picture, View]]) -> None:
        """Compute and store the masks that are not cached yet, and say how much of the pictures counts.

        Raises:
            InputError: if one is all black, so that nothing of its picture is left, or no picture has an alpha channel.
        """
        shares: dict[str, list[float]] = defaultdict(list)
        for picture, view in wanted:
            shares[picture.name].append(float(self.mask(cache, picture, view).mean()))
        if empty := [name for name, some_views in shares.items() if min(some_views) == 0]:
            raise InputError(
                f"{len(empty)} of {len(shares)} masks are black wherever their picture is shown ({some(empty)}), so "
                "nothing of it would count; correct them or remove these pictures"
            )
        whole = [name for name, some_views in shares.items() if min(some_views) == 1]
        if self.source == ALPHA and len(whole) == len(shares):
            raise InputError(
                "no picture has transparent areas, so data.masks alpha would do nothing; preprocess lays them on "
                "white: give the folder it read, or a folder of masks"
            )
        counts = sum(sum(some_views) / len(some_views) for some_views in shares.values()) / len(shares)
        log.warning(
            "by the masks %.0f %% of the pictures' area count, for training and for held-out loss and skill; %d of %d "
            "pictures count as a whole",
            *(100 * counts, len(whole), len(shares)),
        )

    def mask(self, cache: Cache, picture: Picture, view: View) -> Tensor:
        """Return the share of each latent that counts, float32 (1, h, w) in 0..1, averaged over its area.

        The mask is resized, cropped and mirrored as its picture.
        """
        file, what = self._found[picture.path]
        path = cache.mask_path(what, view)
        return (read(path) or write(path, {"mask": self._computed(file, view, cache.pixels_per_latent)}))["mask"]

    def _computed(self, file: Path, view: View, factor: int) -> Tensor:
        reading = read_picture(file, background="black")  # a mask's transparent areas are not part of it
        image = reading.opacity if self.source == ALPHA else reading.image.convert("L")
        if image is None:
            return torch.ones(1, view.size[1] // factor, view.size[0] // factor)
        if view.interpolation != "nearest":  # the same crop, by averages, which no filter's ringing carries further
            view = replace(view, interpolation="box")
        pixels = torch.from_numpy(np.array(view.of(image), dtype=np.float32) / 255)
        return F.avg_pool2d(pixels[None], factor)

    def share(self) -> None:
        """Broadcast what rank 0 found."""
        self._found = gather_objects(self._found)[0]


def _grey(picture: Picture, file: Path) -> str:
    """Return what the mask is for the cache, after comparing its size with the picture's."""
    try:
        data = picture_bytes(file)
        size = upright_size(data)
    except (InputError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as a mask; replace it") from error
    if size != picture.size:
        raise InputError(
            f"the mask {file} has {size[0]}x{size[1]} px, but its picture {picture.name} "
            f"{picture.size[0]}x{picture.size[1]}; make them equal"
        )
    return f"grey {hashlib.sha256(data).hexdigest()}"
