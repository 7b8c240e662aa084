"""Training data of one style: split, resize, caption, and read batches from the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stylelora.data.buckets import Size, fills, join_small
from stylelora.data.cache import Cache, View
from stylelora.data.captions import whole_word
from stylelora.data.framing import Framing
from stylelora.data.images import lost_share, to_tensor
from stylelora.data.masks import Masks
from stylelora.data.reading import open_picture
from stylelora.data.scan import check_decodable, choose_pictures, scan_folder, split_by_content
from stylelora.data.wording import Wording
from stylelora.distributed import gather_objects
from stylelora.records import InputError, Picture

log = logging.getLogger(__name__)
MUCH = 0.5  # share of a picture that cropping may take unsaid
MOST_SAMPLES = 10**7  # of an epoch; their order takes 80 MB
Side = Literal["train", "held_out"]


class StyleDataset:
    """A folder of captioned pictures, split into training and held-out sets.

    Args:
        root: folder of the pictures.
        held_out_share: expected share of held-out pictures, 0..1.
        framing: how pictures are resized and cropped.
        wording: how captions are worded.
        flip: allow mirrored training pictures.
        repeats: how often each picture is shown per epoch, times its own repeats.
        masks: where in the pictures the loss counts; None: everywhere.
        count: how many of the training pictures to use; None: all.
        count_seed: which of them.

    Attributes:
        train: training pictures, empty before `scan`.
        held_out: held-out pictures.
        samples: index of the training picture of each sample of an epoch: all pictures once, then again those that
            are shown twice, and so on.
        sizes: target width and height of each picture, per side of the split; empty before `choose_sizes`.
    """

    def __init__(
        self,
        root: Path,
        held_out_share: float,
        framing: Framing,
        wording: Wording,
        flip: bool = False,
        repeats: int = 1,
        masks: Masks | None = None,
        count: int | None = None,
        count_seed: int = 0,
    ) -> None:
        self.root, self.held_out_share = root, held_out_share
        self.framing, self.wording, self.flip, self.repeats, self.masks = framing, wording, flip, repeats, masks
        self.count, self.count_seed = count, count_seed
        self.train: list[Picture] = []
        self.held_out: list[Picture] = []
        self.samples: list[int] = []
        self.sizes: dict[Side, list[Size]] = {}

    def scan(self) -> None:
        """Find the pictures and split them.

        Raises:
            InputError: if the folder, a picture or a caption cannot be used.
        """
        wording = self.wording
        pictures = scan_folder(self.root, wording.wildcards, wording.trigger if wording.adds_trigger else "")
        self.train, self.held_out = split_by_content(pictures, self.held_out_share)
        if self.count is not None:
            if self.count > len(self.train):
                raise InputError(
                    f"pictures is {self.count}, but {self.root} has {len(self.train)} to train on; give at most as many"
                )
            self.train = choose_pictures(self.train, self.count, self.count_seed)
        shown = [self.repeats * picture.repeats for picture in self.train]
        if sum(shown) > MOST_SAMPLES:
            raise InputError(
                f"repeats make an epoch of {sum(shown)} pictures of those in {self.root}; give at most "
                f"{MOST_SAMPLES}, and more epochs instead"
            )
        left, self.samples = list(range(len(shown))), []
        for turn in range(max(shown)):
            self.samples += (left := [index for index in left if shown[index] > turn])
        if not self.held_out:
            log.warning(
                "held_out is 0: none of the %d pictures in %s is held out to measure skill with",
                *(len(pictures), self.root),
            )
        if twice := sum(wording.names_trigger_twice(text) for picture in pictures for text in picture.texts):
            log.warning(
                "%d captions in %s hold the trigger %r already and get it twice; take it out, or give "
                "--data.template '{text}' if all captions hold it",
                *(twice, self.root, wording.trigger),
            )
        if self.masks:
            self.masks.scan(self.root, [*self.train, *self.held_out])

    def warn_of_no_trigger(self) -> None:
        """Say so if neither the template nor any training caption has the trigger, which prompts will have."""
        wording, word = self.wording, whole_word(self.wording.trigger)
        shown = (wording.caption(text) for picture in self.train for text in picture.texts)
        if not wording.adds_trigger and not any(map(word.search, shown)):
            log.warning(
                "no caption in %s holds the trigger %r, and the template %r adds none, so predict will draw with a "
                "word that was not trained; give the word that captions hold as --data.trigger, or {trigger} to "
                "--data.template",
                *(self.root, wording.trigger, wording.template),
            )

    def choose_sizes(self, step: int, batch: int = 1) -> None:
        """Choose each picture's target size, so that every training size fills at least one batch.

        Args:
            step: sides are multiples of this.
            batch: global batch size, over all devices; all pictures of a batch share one size.

        Raises:
            InputError: if pictures are too small for `source_size` or `no_upscale`, or there are too few.
        """
        shapes, framing = [picture.size for picture in (*self.train, *self.held_out)], self.framing
        sizes = framing.sizes(shapes, step)
        train, held_out = sizes[: len(self.train)], sizes[len(self.train) :]
        shown = [self.repeats * picture.repeats for picture in self.train]
        joined = join_small(shapes[: len(train)], train, batch, framing.no_upscale, shown)
        if moved := [old for old, new in zip(train, joined, strict=True) if old != new]:
            log.warning(
                "%d pictures of %d sizes, too few for a batch of %d each, are cropped to the nearest of %d other sizes",
                *(len(moved), len(set(moved)), batch, len(set(joined))),
            )
        self.sizes = {"train": joined, "held_out": held_out}
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Warn how many pictures are upscaled, and reject those smaller than `source_size`."""
        framing, source = self.framing, self.framing.source_size or 0
        if smaller := [min(picture.size) for picture in self.train if min(picture.size) < source]:
            raise InputError(
                f"{len(smaller)} of {len(self.train)} pictures in {self.root} are smaller than source_size "
                f"{source}, the smallest has {min(smaller)} px; give larger ones or lower source_size"
            )
        pictures, sizes = [*self.train, *self.held_out], [*self.sizes["train"], *self.sizes["held_out"]]
        lost = [lost_share(p.size, size, framing.interpolation) for p, size in zip(pictures, sizes, strict=True)]
        if cropped := [(share, p.name) for share, p in zip(lost, pictures, strict=True) if share > MUCH]:
            log.warning(
                "%d of %d pictures in %s lose more than half of their area to cropping, %s the most (%.0f %%); crop "
                "them as you want them, or give --data.buckets true",
                *(len(cropped), len(pictures), self.root, max(cropped)[1], 100 * max(cropped)[0]),
            )
        small = [min(p.size) for p, size in zip(pictures, sizes, strict=True) if not fills(p.size, size)]
        if small and framing.interpolation != "nearest":  # upscaling pixel art is intended
            log.warning(
                "%d of %d pictures in %s are smaller than %d px and are enlarged, the smallest from %d px",
                *(len(small), len(pictures), self.root, framing.resolution, min(small)),
            )

    def share(self) -> None:
        """Broadcast the scan from rank 0; other ranks have not read the folder."""
        found = self.train, self.held_out, self.samples, self.sizes
        self.train, self.held_out, self.samples, self.sizes = gather_objects(found)[0]
        if self.masks:
            self.masks.share()

    def view(self, side: Side, index: int, flip: bool = False) -> View:
        """Return the view of a picture that the VAE encodes."""
        return self.framing.view(self.sizes[side][index], side == "train", flip)

    def views(self) -> Iterator[tuple[Picture, View]]:
        """Yield every view that the VAE may have to encode."""
        for side, members in (("train", self.train), ("held_out", self.held_out)):
            for index, picture in enumerate(members):
                yield picture, self.view(side, index)
                if side == "train" and self.flip:
                    yield picture, self.view(side, index, flip=True)

    def entry_bytes(self, cache: Cache) -> int:
        """Return about how many bytes the cached entries take: as many for each latent, and text, as for the first."""
        view, captions = self.view("train", 0), set(self.captions())
        size = sum(tensor.nbytes for tensor in cache.latent(self.train[0], view).values())
        size *= len(self.train) * (1 + self.flip) + len(self.held_out)
        return size + (len(captions) * cache.text(captions.pop()).nbytes if cache.keeps_texts else 0)

    def captions(self) -> list[str]:
        """Return every caption that the text encoder may have to encode."""
        shown = [caption for picture in self.train for caption in self.wording.variants(picture.texts)]
        return shown + [self.wording.caption(picture.text) for picture in self.held_out]

    def encode(self, cache: Cache, prompts: Sequence[str] = ()) -> None:
        """Encode whatever is missing from the cache.

        Args:
            cache: cache of the base.
            prompts: texts to encode besides the captions and the empty text.

        Raises:
            InputError: if pictures cannot be decoded; names all of them, before anything is encoded.
        """
        cache.remove_abandoned()
        missing = cache.missing(self.views())
        check_decodable(self.root, dict.fromkeys(picture for picture, _ in missing))
        if self.masks:
            self.masks.prepare(cache, self.views())
        cache.add_texts([*self.captions(), *prompts, ""])
        cache.add_latents(self.views())

    def batch(self, cache: Cache, side: Side, rows: list[int], flips: list[bool], captions: list[str]) -> dict:
        """Read a batch from the cache.

        Args:
            cache: cache of the base.
            side: training or held-out pictures.
            rows: numbers of training samples, or of held-out pictures.
            flips: whether each sample is mirrored.
            captions: caption of each sample.

        Returns:
            `mean`, `std` (B, C, h, w) of the latents, `text` (B, T, D), `empty_text` (1, T, D), float32, without the
            last two if texts are not cached; lists `row`, `sha256`, `file` and `caption` of each picture; with masks
            `mask` (B, 1, h, w).
        """
        members = getattr(self, side)
        pick = [self.samples[row] for row in rows] if side == "train" else rows
        pictures = [members[i] for i in pick]
        views = [self.view(side, i, flip) for i, flip in zip(pick, flips, strict=True)]
        batch = read_batch(cache, pictures, views, captions, rows)
        if self.masks:
            pairs = zip(pictures, views, strict=True)
            batch["mask"] = torch.stack([self.masks.mask(cache, *pair) for pair in pairs])
        return batch

    def image(self, side: Side, index: int) -> Tensor:
        """Return a picture at its target size, without `source_size` reduction or mirroring, uint8 (3, H, W)."""
        view = self.framing.view(self.sizes[side][index])
        return to_tensor(view.of(open_picture(getattr(self, side)[index].path)))

    @property
    def dataset_hash(self) -> str:
        """Return an order-independent hash of all pictures and captions."""
        pictures = [*self.train, *self.held_out]
        rows = sorted(" ".join([picture.sha256, *picture.texts]) for picture in pictures)
        return sha256("\n".join(rows).encode()).hexdigest()


def read_batch(
    cache: Cache, pictures: Sequence[Picture], views: Sequence[View], captions: Sequence[str], rows: list
) -> dict:
    """Read pictures and captions from the cache; see `StyleDataset.batch`."""
    latents = [cache.latent(picture, view) for picture, view in zip(pictures, views, strict=True)]
    batch = {name: torch.stack([latent[name] for latent in latents]) for name in ("mean", "std")}
    if cache.keeps_texts:
        batch |= {"text": cache.texts(captions), "empty_text": cache.texts([""])}
    known = {"sha256": [picture.sha256 for picture in pictures], "file": [str(picture.path) for picture in pictures]}
    return batch | {"row": rows, **known, "caption": list(captions)}
