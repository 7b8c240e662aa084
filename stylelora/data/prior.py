"""Pictures that keep what the base knows: prior preservation (Ruiz et al. 2022, eq. 2), kohya's regularisation."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stylelora.data.buckets import Size
from stylelora.data.cache import Cache, View
from stylelora.data.captions import whole_word
from stylelora.data.dataset import read_batch
from stylelora.data.folders import Described, find_subsets, read_captions
from stylelora.data.reading import SUFFIXES
from stylelora.data.scan import check_decodable, read_pictures
from stylelora.distributed import gather_objects
from stylelora.files import files_below
from stylelora.records import InputError, Picture, some
from stylelora.seeds import generator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prior:
    """Pictures without the style that are trained on beside the style's, so that the base keeps what it knows.

    The loss is that of the style's pictures plus `weight` times that of these. Each step sees as many of them as of the
    style's, so a step of `batch_size` pictures takes the memory of twice as many.

    Args:
        root: folder of pictures that keep what the base knows; or of kohya's folders, such as 1_cat; their own
            captions, without trigger, count, or else the prompt; if it holds no picture, the base makes them there
            before training; null: off.
        prompt: what they show, without trigger, such as "a cat"; default: the captions of the training pictures, in
            turn.
        weight: factor of their loss; 0: off.
        count: how many the base makes.
    """

    root: str | None = None
    prompt: str | None = None
    weight: float = 1.0
    count: int = 100

    def check(self, data_root: Path, trigger: str) -> None:
        """Check that options are within range and do not contradict one another.

        Args:
            data_root: folder of the style's pictures.
            trigger: trigger word of the style.

        Raises:
            InputError: if not.
        """
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"data.prior.weight is {self.weight}; it must be a number of at least 0, such as 1")
        if self.count < 1:
            raise InputError(f"data.prior.count is {self.count}; give at least 1")
        if self.root is None:
            if changed := [
                name for name in ("prompt", "weight", "count") if getattr(self, name) != getattr(Prior, name)
            ]:
                raise InputError(f"data.prior.{changed[0]} has no effect without data.prior.root; give it a folder")
            return
        ours, theirs = data_root.resolve(), Path(self.root).resolve()
        if ours in (theirs, *theirs.parents) or theirs in ours.parents:
            raise InputError(
                f"data.prior.root is {self.root}, but the style's own pictures are in {data_root}; give a folder that "
                "is neither inside the other"
            )
        if self.prompt is not None and not self.prompt.strip():
            raise InputError("data.prior.prompt is empty; say what the pictures show, such as 'a cat'")
        _refuse_trigger(trigger, [self.prompt or ""], "data.prior.prompt")

    @property
    def used(self) -> bool:
        """Return whether there are such pictures."""
        return self.root is not None and self.weight > 0


def _refuse_trigger(trigger: str, texts: Iterable[str], where: str) -> None:
    if any(map(whole_word(trigger).search, texts)):
        raise InputError(f"{where} has the trigger {trigger!r}, which stands for the style; leave it out there")


class PriorPictures:
    """The pictures of a Prior, as batches to train on; none if it is off.

    Args:
        options: where they are and how much they count.

    Attributes:
        pictures: empty before `scan`, and if it is off.
    """

    def __init__(self, options: Prior) -> None:
        self.options = options
        self.pictures: list[Picture] = []

    @property
    def lacking(self) -> bool:
        """Return whether the folder holds no picture."""
        root = Path(self.options.root)
        return not (root.is_dir() and any(file.suffix.lower() in SUFFIXES for file in files_below(root)))

    def scan(self, trigger: str) -> None:
        """Find the pictures.

        Raises:
            InputError: if the folder, a picture or a caption cannot be used, or captions have the trigger.
        """
        root, described = Path(self.options.root), []
        for part in find_subsets(root):
            captions = read_captions(part)
            for name in part.names:
                said = tuple(filter(None, captions[name].texts)) if name in captions else ()
                texts = said or tuple(filter(None, [self.options.prompt or part.token.replace("_", " ")]))
                described.append((part, name, Described(texts)))
        pictures = read_pictures(root, described)
        if bare := [picture.name for picture in pictures if not picture.text]:
            raise InputError(
                f"{len(bare)} pictures in {root} have no caption ({some(bare)}); say what they show with "
                "data.prior.prompt, or add a .txt file beside each"
            )
        _refuse_trigger(trigger, (text for one in pictures for text in one.texts), f"a caption in {root}")
        self.pictures = found = [picture for picture in pictures for _ in range(picture.repeats)]
        log.warning("%d pictures in %s keep what the base knows, with weight %g", len(found), root, self.options.weight)

    def encode(self, cache: Cache, sizes: Iterable[Size]) -> None:
        """Encode the pictures at each size of the style's, since all pictures of a batch share one."""
        views = [(picture, _view(size)) for size in sorted(set(sizes)) for picture in self.pictures]
        missing = cache.missing(views)
        check_decodable(Path(self.options.root), dict.fromkeys(picture for picture, _ in missing))
        cache.add_texts(text for picture in self.pictures for text in picture.texts)
        cache.add_latents(views)

    def share(self) -> None:
        """Broadcast what rank 0 found."""
        self.pictures = gather_objects(self.pictures)[0]

    def chosen(self, rows: Sequence[int], seed: int, epoch: int) -> Iterator[tuple[Picture, str]]:
        """Yield a picture and its caption for each training sample; an epoch shows all about equally often, shuffled.

        Args:
            rows: numbers of training samples.
            seed: of the training.
            epoch: index from 0.
        """

        @functools.cache  # most rows of a batch are of one turn
        def order(turn: int) -> list[int]:
            return torch.randperm(len(self.pictures), generator=generator("prior", seed, epoch, turn)).tolist()

        for row in rows:
            turn, place = divmod(row, len(self.pictures))
            picture = self.pictures[order(turn)[place]]
            yield picture, picture.texts[(epoch + turn) % len(picture.texts)]

    def joined(self, batch: dict, cache: Cache, size: Size, seed: int, epoch: int) -> dict:
        """Append as many of these pictures to a batch; unchanged if there are none.

        Args:
            batch: training batch of `StyleDataset.batch`.
            cache: cache of the base.
            size: width and height of its pictures.
            seed: of the training.
            epoch: index from 0.

        Returns:
            the batch of 2 B pictures, and `weight`, float32 (2 B,): the loss of a step is the mean of the pictures'
            losses times their weights, that is, the mean over the style's plus the weighted mean over these.
        """
        if not self.pictures:
            return batch
        rows = batch["row"]
        pictures, captions = zip(*self.chosen(rows, seed, epoch), strict=True)
        names = [f"prior {row}" for row in rows]  # keys of their draws
        more = read_batch(cache, pictures, [_view(size)] * len(rows), captions, names)
        if "mask" in batch:
            more["mask"] = torch.ones_like(batch["mask"])
        batch = {name: _both(name, value, more[name]) for name, value in batch.items()}
        return batch | {"weight": torch.tensor([2.0] * len(rows) + [2.0 * self.options.weight] * len(rows))}


def _view(size: Size) -> View:
    return View(size, "lanczos")  # also for pixel art: these pictures are not of it


def _both(name: str, first: torch.Tensor | list, second: torch.Tensor | list) -> torch.Tensor | list:
    if name.startswith("empty_"):  # one for all pictures
        return first
    return torch.cat([first, second]) if isinstance(first, torch.Tensor) else [*first, *second]
