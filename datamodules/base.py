"""The data of one style: a folder of captioned pictures becomes latents, held-out latents and prompts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.sampler import EpochSampler, ShareSampler, batches_of
from stylelora.base.load import check_resolution, read_config, resolve_base, size_step
from stylelora.data.buckets import Size, choose_buckets, fills, join_small
from stylelora.data.cache import Cache, View
from stylelora.data.captions import check_template, shuffled_tags
from stylelora.data.embedded import folder as embedded_folder
from stylelora.data.images import check_interpolation
from stylelora.data.scan import check_decodable, read_census, scan_folder, split_by_content
from stylelora.diffusion import noise
from stylelora.distributed import gather_objects
from stylelora.records import InputError, Picture

log = logging.getLogger(__name__)

#: Orders that a caption of tags is shown in; each is a text embedding on disk.
TAG_ORDERS = 8

#: Content of the pictures sampled every epoch, when a run file names no others. All are words that "mini" knows.
PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")


class StyleDataModule(L.LightningDataModule):
    """Captioned pictures of one style, as cached latents and text embeddings.

    A style sets the class attributes; everything else is here. Pictures are scaled and cropped to a size, encoded once
    with the base's autoencoder, and split by the hash of their content. The base is the one the model names. Batches
    are read from the cache as they are needed, so memory does not grow with the set.

    Args:
        root: folder of pictures with `metadata.jsonl` or `.txt` captions; default: the style's embedded pictures.
        resolution: side in pixels of the square that pictures are brought to.
        batch_size: pictures per device and step.
        repeats: how often each picture is seen per epoch.
        held_out: expected share of pictures that are never trained on, 0..1.
        prompts: content of the sampled pictures, without trigger word; default: the style's own.
        samples_per_prompt: pictures per prompt, with seeds 0, 1, ...
        sample_batch_size: pictures made at once while sampling.
        interpolation: nearest, box, bilinear, bicubic or lanczos; default: what `preprocess` was given for this folder,
            else the style's own. `nearest` scales by whole factors only, crops or continues the border.
        trigger: word that stands for the style; default: as of interpolation.
        template: how captions and prompts are worded; default: as of interpolation, else "{trigger}, {text}".
        keep_tags: captions are lists of tags, shown in other orders in other epochs, the first so many in their place;
            null: captions stay as they are.
        buckets: bring each picture to the size nearest to its shape, of at most the square's area and sides from half
            the resolution to twice, in the steps that the base allows (64 px for Stable Diffusion 1.5, 16 for mini).
        no_upscale: enlarge no picture; one that does not fill its bucket gets a smaller one, its own size rounded down.
        flip: show a picture of the training set mirrored half of the time.
        source_size: for studies of resolution: cut the middle square out of each picture of the training set, reduce it
            to this side in pixels by averaging, and enlarge it again; held-out pictures stay as they are.
        upscale_interpolation: interpolation of that enlargement.
        cache: folder of the cached latents and text embeddings.
    """

    style: str | None = None
    default_trigger: str | None = None
    default_interpolation = "lanczos"
    default_prompts: tuple[str, ...] = PROMPTS

    def __init__(
        self,
        root: str | None = None,
        resolution: int = 512,
        batch_size: int = 4,
        repeats: int = 1,
        held_out: float = 0.2,
        prompts: list[str] | None = None,
        samples_per_prompt: int = 1,
        sample_batch_size: int = 8,
        interpolation: str | None = None,
        trigger: str | None = None,
        template: str | None = None,
        keep_tags: int | None = None,
        buckets: bool = False,
        no_upscale: bool = False,
        flip: bool = False,
        source_size: int | None = None,
        upscale_interpolation: str = "bicubic",
        cache: str = ".cache/stylelora",
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer prompts than processes are no error
        if root is None and self.style is None:
            raise InputError("this style has no embedded pictures; give data.init_args.root a folder")
        counts = {"batch_size": batch_size, "repeats": repeats, "sample_batch_size": sample_batch_size}
        counts["samples_per_prompt"] = samples_per_prompt
        if not 0 < held_out < 1:
            raise InputError(f"held_out is {held_out}; it is a share between 0 and 1")
        if low := [name for name, value in counts.items() if value < 1]:
            raise InputError(f"{' and '.join(low)} must be at least 1")
        self.root = Path(root) if root is not None else embedded_folder(self.style)
        self.style_name = self.style if root is None else self.root.resolve().name
        made = (read_census(self.root) or {}).get("settings", {})
        self.trigger = trigger or made.get("trigger") or self.default_trigger
        if not self.trigger:
            raise InputError("a style needs a trigger word; give data.init_args.trigger one")
        self.resolution, self.batch_size, self.repeats, self.held_out_share = resolution, batch_size, repeats, held_out
        self.contents = list(prompts or self.default_prompts)
        self.samples_per_prompt, self.sample_batch_size = samples_per_prompt, sample_batch_size
        self.interpolation, self.cache = (
            interpolation or made.get("interpolation") or self.default_interpolation,
            Path(cache),
        )
        self.template, self.keep_tags = template or made.get("template") or "{trigger}, {text}", keep_tags
        self.buckets, self.no_upscale, self.flip = buckets, no_upscale, flip
        self.source_size, self.upscale_interpolation = source_size, upscale_interpolation
        self._check_options()
        self.train: list[Picture] = []
        self.held_out: list[Picture] = []
        self.sizes: dict[str, list[Size]] = {}  # of train and held_out, picture by picture

    def _check_options(self) -> None:
        """Refuse options that do not go together."""
        check_interpolation(self.interpolation)
        check_interpolation(self.upscale_interpolation)
        check_template(self.template)
        if self.keep_tags is not None and self.keep_tags < 0:
            raise InputError(f"keep_tags is {self.keep_tags}; it is a number of tags, at least 0")
        source, resolution = self.source_size, self.resolution
        if self.no_upscale and not self.buckets:
            raise InputError("no_upscale needs buckets of several sizes; turn buckets on")
        if source is None and self.upscale_interpolation != "bicubic":
            raise InputError("upscale_kernel has no effect without source_size; give both or neither")
        if source is not None and self.buckets:
            raise InputError("source_size makes pictures square, which buckets would not; turn one of them off")
        if source is not None and not 1 <= source <= resolution:
            raise InputError(f"source_size is {source}; it must be at least 1 and at most the resolution, {resolution}")
        if source is not None and self.upscale_interpolation == "nearest" and resolution % source:
            raise InputError(
                f"resolution {resolution} is no multiple of source_size {source}, which nearest needs; choose another"
            )

    def caption(self, text: str) -> str:
        """Return the full caption or prompt of a content text, trigger in front."""
        return self.template.format(trigger=self.trigger, text=text)

    def _wording(self, text: str, order: int) -> str:
        """Return the caption of a picture of the training set, its tags in one of TAG_ORDERS orders."""
        return self.caption(text if self.keep_tags is None else shuffled_tags(text, self.keep_tags, order))

    def prepare_data(self) -> None:
        """Scan the folder and fill the cache, in one process only; everything that is wrong is said here."""
        base = resolve_base(self.trainer.lightning_module.base)
        check_resolution(base, self.resolution)
        self.train, self.held_out = split_by_content(scan_folder(self.root), self.held_out_share)
        needed = self.batch_size * self.trainer.world_size
        if len(self.train) * self.repeats < needed:
            raise InputError(
                f"one step needs {needed} pictures but {self.root} gives {len(self.train) * self.repeats} per epoch; "
                "lower batch_size or raise repeats"
            )
        self._choose_sizes(size_step(base), needed)
        self._check_sizes()
        encoded = self._open_cache()
        encoded.remove_abandoned()
        missing = encoded.missing(self._views())
        check_decodable(self.root, dict.fromkeys(picture for picture, _ in missing))
        orders = range(1 if self.keep_tags is None else TAG_ORDERS)
        captions = [self._wording(picture.text, order) for picture in self.train for order in orders]
        captions += [self.caption(text) for text in (*(picture.text for picture in self.held_out), *self.contents)]
        encoded.add_texts([*captions, *self.contents, ""])
        encoded.add_latents(missing)

    def setup(self, stage: str) -> None:
        """Take over what the first process found in `prepare_data`; the others have not read the folder."""
        del stage
        self.train, self.held_out, self.sizes = gather_objects((self.train, self.held_out, self.sizes))[0]
        self.encoded = self._open_cache()

    def _open_cache(self) -> Cache:
        base = resolve_base(self.trainer.lightning_module.base)
        return Cache(self.cache, base, self.trainer.strategy.root_device)

    def _choose_sizes(self, step: int, needed: int) -> None:
        """Decide to what size each picture is brought; of none of the training set there are fewer than a batch."""
        shapes = [picture.size for picture in (*self.train, *self.held_out)]
        sizes: list[Size] = [(self.resolution, self.resolution)] * len(shapes)
        if self.buckets:
            sizes = choose_buckets(shapes, self.resolution, step, self.no_upscale)
        train, held_out = sizes[: len(self.train)], sizes[len(self.train) :]
        joined = join_small(shapes[: len(train)], train, -(-needed // self.repeats), self.no_upscale)
        if moved := [old for old, new in zip(train, joined, strict=True) if old != new]:
            log.warning(
                "%d pictures of %d sizes, too few for a batch of %d each, are cropped to the nearest of %d other sizes",
                *(len(moved), len(set(moved)), needed, len(set(joined))),
            )
        self.sizes = {"train": joined, "held_out": held_out}

    def _check_sizes(self) -> None:
        """Say how many pictures are enlarged, and refuse those that cannot be reduced to `source_size`."""
        if smaller := [min(picture.size) for picture in self.train if min(picture.size) < (self.source_size or 0)]:
            raise InputError(
                f"{len(smaller)} of {len(self.train)} pictures in {self.root} are smaller than source_size "
                f"{self.source_size}, the smallest has {min(smaller)} px; give larger ones or lower source_size"
            )
        pictures, sizes = [*self.train, *self.held_out], [*self.sizes["train"], *self.sizes["held_out"]]
        small = [min(p.size) for p, size in zip(pictures, sizes, strict=True) if not fills(p.size, size)]
        if small and self.interpolation != "nearest":  # pixel art is meant to be enlarged
            log.warning(
                "%d of %d pictures in %s are smaller than %d px and are enlarged, the smallest from %d px",
                *(len(small), len(pictures), self.root, self.resolution, min(small)),
            )

    def _view(self, side: str, index: int, flip: bool = False) -> View:
        """Return how a picture is shown to the autoencoder."""
        size = self.sizes[side][index]
        if side == "train" and self.source_size is not None:
            return View(size, self.upscale_interpolation, self.source_size, flip)
        return View(size, self.interpolation, flip=flip)

    def _views(self) -> Iterator[tuple[Picture, View]]:
        """Yield all that the autoencoder may have to encode."""
        for side, members in (("train", self.train), ("held_out", self.held_out)):
            for index, picture in enumerate(members):
                yield picture, self._view(side, index)
                if side == "train" and self.flip:
                    yield picture, self._view(side, index, flip=True)

    @property
    def fingerprint(self) -> str:
        """Hash of all pictures and captions, for the result file."""
        rows = sorted(f"{picture.sha256} {picture.text}" for picture in [*self.train, *self.held_out])
        return sha256("\n".join(rows).encode()).hexdigest()

    def _texts(self, texts: list[str]) -> Tensor:
        return torch.stack([self.encoded.text(text) for text in texts])

    def _batch(self, side: str, rows: list[int], flips: list[bool], captions: list[str]) -> dict:
        members = getattr(self, side)
        pick = [row % len(members) for row in rows]
        views = [self._view(side, i, flip) for i, flip in zip(pick, flips, strict=True)]
        latents = [self.encoded.latent(members[i], view) for i, view in zip(pick, views, strict=True)]
        batch = {name: torch.stack([latent[name] for latent in latents]) for name in ("mean", "std")}
        batch["text"] = self._texts(captions)
        batch["empty_text"] = self._texts([""])
        return batch | {"row": rows, "sha256": [members[i].sha256 for i in pick]}

    def _prompts(self, rows: list[int]) -> dict:
        contents = [self.contents[row // self.samples_per_prompt] for row in rows]
        prompts = [self.caption(content) for content in contents]
        vae = read_config(self.encoded.base, "vae")
        side = self.resolution // 2 ** (len(vae["block_out_channels"]) - 1)
        return {
            "index": rows,
            "seed": [row % self.samples_per_prompt for row in rows],
            "prompt": prompts,
            "content": contents,
            "text": self._texts(prompts),
            "content_text": self._texts(contents),
            "empty_text": self._texts([""]),
            "latent_shape": (vae["latent_channels"], side, side),
        }

    def train_dataloader(self) -> DataLoader:
        """Latents `mean`, `std` (B, C, h, w), `text` (B, T, D), the sample's `row` and its picture's `sha256`."""
        buckets, world, rank = self.sizes["train"] * self.repeats, self.trainer.world_size, self.trainer.global_rank
        sampler = EpochSampler(buckets, self.batch_size, world, rank, int(os.environ.get("PL_GLOBAL_SEED", 0)))

        def collate(rows: list[int]) -> dict:
            def draws(what: str, needed: bool) -> list[float]:
                keys = [(what, sampler.seed, sampler.epoch, row) for row in rows]
                return noise.uniform(keys).tolist() if needed else [1.0] * len(rows)

            flips = [draw < 0.5 for draw in draws("flip", self.flip)]
            texts = [self.train[row % len(self.train)].text for row in rows]
            orders = [int(draw * TAG_ORDERS) for draw in draws("tags", self.keep_tags is not None)]
            captions = [self._wording(text, order) for text, order in zip(texts, orders, strict=True)]
            return self._batch("train", rows, flips, captions)

        return DataLoader(range(len(buckets)), self.batch_size, sampler=sampler, collate_fn=collate)

    def val_dataloader(self) -> list[DataLoader]:
        """Return two loaders: the held-out latents, a batch of one size each, and the prompts to sample, squares."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        batches = batches_of(self.sizes["held_out"], self.batch_size)
        count = len(self.contents) * self.samples_per_prompt

        def collate(rows: list[int]) -> dict:
            captions = [self.caption(self.held_out[row].text) for row in rows]
            return self._batch("held_out", rows, [False] * len(rows), captions)

        sampler = ShareSampler(len(batches), world, rank)
        held_out = DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)  # None: an item is a batch
        sampler = ShareSampler(count, world, rank)
        prompts = DataLoader(range(count), self.sample_batch_size, sampler=sampler, collate_fn=self._prompts)
        return [held_out, prompts]
