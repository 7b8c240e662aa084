"""On-disk cache of latents and text embeddings, one small file per entry.

During training neither the text encoder nor the full set of latents is in memory. The file name is a hash of
everything that determines the content, so entries are never stale: changing a picture, a caption, the base or the
resolution gives another name. Pictures and captions are encoded one at a time, so that a value does not depend on what
else was requested with it or already cached.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stylelora.base.conditioning import encode_texts
from stylelora.base.load import load_text_encoder, load_tokenizer, load_vae, part_hash, read_config
from stylelora.base.numbers import bad_places, check_numbers
from stylelora.base.token_limit import say_cut_off
from stylelora.data.images import degrade, fit, to_tensor
from stylelora.data.reading import read_picture
from stylelora.files import PARTIAL, remove_abandoned, safetensors_bytes
from stylelora.files import write as write_file
from stylelora.records import InputError, Picture
from stylelora.texts import quoted

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

#: Increment whenever reading, resizing or encoding the same input gives a different result.
FORMAT = 1
PATIENCE = 1.0  # seconds after which a run that waits for another one says so


@dataclass(frozen=True)
class View:
    """How a picture is prepared for the VAE.

    Attributes:
        size: width and height in pixels.
        interpolation: resampling filter, one of `images.INTERPOLATIONS`.
        source_size: side to which the centre square is downscaled first; None: no downscaling.
        flip: whether to mirror horizontally.
    """

    size: tuple[int, int]
    interpolation: str
    source_size: int | None = None
    flip: bool = False

    def of(self, image: Image.Image) -> Image.Image:
        """Apply the view to an RGB picture."""
        if self.source_size is not None:
            image = degrade(image, self.source_size)
        image = fit(image, self.size, self.interpolation)
        return ImageOps.mirror(image) if self.flip else image


class Cache:
    """Cached latents and text embeddings of one base model.

    Safe for concurrent readers and writers; of runs that begin together with the same data, one encodes for all.
    Damaged entries are recomputed with a warning.

    Args:
        folder: folder of the cache files.
        base: folder or file of the base model.
        device: device on which the VAE and the text encoder run.
        clip_skip: as of `embed_texts`.
        keeps_texts: whether the captions of pictures and samples are cached; not if their encoder is trained.
        in_memory: bytes of entries that stay in memory once they are read and checked.
    """

    def __init__(
        self,
        folder: Path,
        base: Path,
        device: torch.device | str,
        clip_skip: int = 1,
        keeps_texts: bool = True,
        in_memory: int = 0,
    ) -> None:
        self.folder, self.base, self.device = folder, base, device
        self.clip_skip, self.keeps_texts = clip_skip, keeps_texts
        self._kept: dict[Path, dict[str, Tensor]] = {}
        self._left = in_memory

    def _path(self, kind: str, *key: object) -> Path:
        name = hashlib.sha256(json.dumps([FORMAT, kind, *key]).encode()).hexdigest()
        return self.folder / kind / name[:2] / f"{name}.safetensors"

    def latent_path(self, picture: Picture, view: View) -> Path:
        """Return the cache path of a picture's latent."""
        return self._path("latents", picture.sha256, part_hash(self.base, "vae"), *astuple(view))

    def mask_path(self, source: str, view: View) -> Path:
        """Return the cache path of a mask at the size of the latents; `source` says what it is made of."""
        return self._path("masks", source, self.pixels_per_latent, *astuple(view))

    def text_path(self, text: str) -> Path:
        """Return the cache path of a text's embedding."""
        skip = [self.clip_skip] if self.clip_skip != 1 else []  # entries from before there was this option stay valid
        hashes = part_hash(self.base, "text_encoder"), part_hash(self.base, "tokenizer")
        return self._path("texts", text, *hashes, *skip)

    def latent(self, picture: Picture, view: View) -> dict[str, Tensor]:
        """Return `mean` and `std` of the latent, float32 (C, h, w), before multiplication by `scaling_factor`."""
        return self._entry(self.latent_path(picture, view), lambda: _encode_picture(picture, view, self._vae()))

    def text(self, text: str) -> Tensor:
        """Return the text encoder's output, float32 (T, D)."""
        return self._entry(self.text_path(text), lambda: self._encode_text(text, self._text_encoder()))["text"]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of several texts, float32 (N, T, D)."""
        return torch.stack([self.text(text) for text in texts])

    def _entry(self, path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if path in self._kept:
            return self._kept[path]
        found = read(path) or write(path, make())
        if (size := sum(tensor.nbytes for tensor in found.values())) <= self._left:
            self._left -= size
            self._kept[path] = found = {name: tensor.clone() for name, tensor in found.items()}  # not of the file
        return found

    def missing(self, wanted: Iterable[tuple[Picture, View]]) -> list[tuple[Picture, View]]:
        """Return the views not cached yet, without duplicates."""
        return list({path: each for each in wanted if not (path := self.latent_path(*each)).is_file()}.values())

    def add_latents(self, wanted: Iterable[tuple[Picture, View]]) -> None:
        """Encode and store the views not cached yet.

        Raises:
            InputError: if a picture cannot be read or has changed since the scan.
        """
        wanted = list(wanted)
        if not self.missing(wanted):
            return
        with self._alone("latents", [self.latent_path(*one) for one in wanted]):
            missing = self.missing(wanted)  # after the wait there may be none
            vae = self._vae() if missing else None
            for picture, view in _progress(missing, "picture"):
                if not (path := self.latent_path(picture, view)).is_file():  # of a run that wants others, too
                    write(path, _encode_picture(picture, view, vae))

    def add_texts(self, texts: Iterable[str]) -> None:
        """Encode and store the texts not cached yet; warn about those that are too long, whose end has no effect."""
        texts = list(dict.fromkeys(texts))
        say_cut_off(self._tokenizer, texts)
        if not self.keeps_texts:
            return
        if all(self.text_path(text).is_file() for text in texts):
            return
        with self._alone("texts", [self.text_path(text) for text in texts]):
            missing = [text for text in texts if not self.text_path(text).is_file()]
            encoder = self._text_encoder() if missing else None
            for text in _progress(missing, "caption"):
                write(self.text_path(text), self._encode_text(text, encoder))

    @contextlib.contextmanager
    def _alone(self, kind: str, paths: Sequence[Path]) -> Iterator[None]:
        """Let only one of several runs of the same data encode; the others then find the entries there."""
        from filelock import FileLock, Timeout

        path = self._path(kind, *sorted(path.stem for path in paths)).with_suffix(PARTIAL)  # so that leavings go
        with contextlib.ExitStack() as held:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(path)
                try:
                    lock.acquire(timeout=PATIENCE)
                except Timeout:
                    log.warning("waiting for another run that encodes the same %s", kind)
                    lock.acquire()
                held.callback(lock.release)
                held.callback(path.unlink, missing_ok=True)
            except (OSError, NotImplementedError):  # some network drives know no locks: entries are encoded twice
                pass
            yield

    def remove_abandoned(self) -> None:
        """Delete partial files of processes killed while writing."""
        remove_abandoned(self.folder, "*/*/*")

    @functools.cached_property
    def pixels_per_latent(self) -> int:
        """Return how many pixels a latent stands for along each side: 8 for Stable Diffusion."""
        return 2 ** (len(read_config(self.base, "vae")["block_out_channels"]) - 1)

    @functools.cached_property
    def _tokenizer(self) -> object:
        return load_tokenizer(self.base)

    def _vae(self) -> nn.Module:
        return load_vae(self.base).to(self.device)

    def _text_encoder(self) -> nn.Module:
        return load_text_encoder(self.base).to(self.device)

    def _encode_text(self, text: str, encoder: nn.Module) -> dict[str, Tensor]:
        found = encode_texts(self._tokenizer, encoder, [text], self.clip_skip).text
        check_numbers(
            found, [quoted(text)], "the text embedding", "the base's text encoder is at fault: give another base"
        )
        return {"text": found[0].cpu()}


@torch.no_grad()
def _encode_picture(picture: Picture, view: View, vae: nn.Module) -> dict[str, Tensor]:
    reading = read_picture(picture.path)
    if reading.sha256 != picture.sha256:
        raise InputError(f"{picture.path} has changed since this run began; start it again")
    pixels = to_tensor(view.of(reading.image))[None].to(vae.device).float() / 127.5 - 1
    posterior = vae.encode(pixels).latent_dist
    check_numbers(posterior.mean, [str(picture.path)], "the latent", "replace the picture, or give another base")
    return {"mean": posterior.mean[0].cpu(), "std": posterior.std[0].cpu()}


def _progress(items: Sequence, unit: str) -> Iterable:
    from tqdm import tqdm

    return tqdm(items, f"encoding {unit}s", unit=unit, disable=None)  # None: only on a terminal


def _checksum(path: Path, tensors: dict[str, Tensor]) -> str:
    """Hash the tensors and the file name, so that a file swapped with another entry's is detected too."""
    digest = hashlib.sha256(path.stem.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy())
    return digest.hexdigest()


def read(path: Path) -> dict[str, Tensor] | None:
    """Read an entry, memory-mapped; None if missing, or damaged (with a warning)."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            whole = (file.metadata() or {}).get("sha256") == _checksum(path, tensors)
            if whole and not any(bad_places(tensors)):  # else it is computed again, and then refused with its name
                return tensors
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, TypeError):  # TypeError: a dtype unknown to numpy
        pass
    log.warning("%s is damaged and is computed again", path)
    return None


def write(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write an entry atomically and return its tensors."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors_bytes(tensors, {"sha256": _checksum(path, tensors)})
    write_file(path, content, sync=False)  # an entry that a power cut damages is found, and computed again
    return tensors
