"""The data of one style: captioned pictures, as latents to train on, held-out latents, and prompts to sample."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader

from datamodules.batches import (
    EpochSampler,
    ShareSampler,
    TrainingBatches,
    TrainingLoader,
    share_batches,
)
from stylelora.base.load import check_resolution, latent_shape, native_resolution, resolve_base, size_step
from stylelora.data.buckets import batches_of
from stylelora.data.cache import Cache
from stylelora.data.captions import clean
from stylelora.data.dataset import StyleDataset
from stylelora.data.framing import Framing
from stylelora.data.masks import Masks
from stylelora.data.prior import Prior, PriorPictures
from stylelora.data.prompt_checks import check_prompts
from stylelora.data.prompts import choose_prompts, prompt_batch
from stylelora.data.scan import read_census, stated_licence
from stylelora.data.styles import Style
from stylelora.data.wording import Wording
from stylelora.diffusion.prior import make_prior
from stylelora.records import InputError, Picture
from stylelora.texts import check_is_folder

log = logging.getLogger(__name__)
IN_MEMORY = 64 * 2**20  # bytes of latents and texts: some 180 pictures of 512 px, 1300 of mini's
WORTH = 0.5  # share of a set that has to fit into it; of less, reading is hardly spared


class StyleDataModule(L.LightningDataModule):
    """Captioned pictures of one style, as cached latents and text embeddings.

    A style sets the class attribute; the rest is here. Pictures are scaled and cropped to a size, encoded once with the
    base's autoencoder, and split by the hash of their content. The base is the one the model names. Batches are read
    from the cache as they are needed; what is read stays in memory up to 64 MiB, and not at all of sets that are more
    than twice as large.

    Args:
        root: folder of pictures and captions; captions in `metadata.jsonl` or in `.txt` files beside the pictures;
            default: the style's embedded pictures.
        resolution: side in pixels of the square training pictures; pictures are resized and cropped to it.
        batch_size: pictures per step and device.
        repeats: how often each picture is shown per epoch; multiplied by the number in a folder's name, such as
            10_cats, and by `repeats` in `metadata.jsonl`.
        held_out: share of pictures that are never trained on, 0 to below 1; an expected share, for a picture's hash
            decides; but two pictures at least; 0 trains on all, and nothing is measured on held-out ones.
        prompts: prompts of the samples, without trigger word, with the options of kohya's scripts if need be, as in
            "a cat --n blurry --w 512 --h 768 --d 42 --l 7.5 --s 28"; default: the style's own.
        prompts_file: file of prompts, instead of `prompts`; one on each line, or YAML, JSON or kohya's TOML.
        negative_prompt: what guidance leads away from in samples; for prompts that have none of their own.
        samples_per_prompt: sample pictures per prompt; their seeds are 0, 1, ...
        sample_batch_size: pictures sampled at once.
        interpolation: how pictures are resized: nearest, box, bilinear, bicubic or lanczos; default: the folder's, else
            the style's (`preprocess` records it in the folder). `nearest`, for pixel art, scales by whole factors only
            and then crops or continues the border.
        trigger: trigger word of the style; captions and prompts get it; default: the folder's, else the style's.
        template: wording of captions and prompts; such as "{trigger}, {text}"; default: the folder's, else the style's.
        name: of the style, which LoRA files note; default: the folder's, else the style's.
        keep_tags: shuffle caption tags every epoch, except this many leading ones; null: no shuffling.
        tag_dropout: probability of leaving out each caption tag, except the `keep_tags` leading ones; 0 to below 1.
        wildcards: whether each line of a caption is a caption of its own, and {red|blue} stands for either word; every
            time a picture is shown, one is drawn (kohya's enable_wildcard).
        buckets: aspect-ratio buckets, instead of cropping all to squares; a picture goes to the size nearest to its
            shape, of at most the square's area and sides from half the resolution to twice, in the steps that the base
            allows (64 px for Stable Diffusion 1.5, 16 for mini).
        no_upscale: never enlarge a picture; one that does not fill its bucket gets a smaller one: its own size, rounded
            down.
        flip: mirror training pictures half of the time; left and right are swapped, at random.
        masks: where in the pictures the loss counts: alpha, their alpha channel, or a folder of masks with the names of
            their pictures, white where they count; held-out loss and skill are of the same parts; null: everywhere.
        prior: pictures without the style, that keep what the base knows.
        pictures: for studies of their number: train on this many pictures only; fewer are always among more, for every
            random seed, and the held-out ones stay as they are; as many steps in an epoch need more `repeats`; null:
            all.
        pictures_seed: which of the pictures those are.
        source_size: for resolution studies: reduce training pictures to this side in pixels; the middle square is cut
            out, reduced by averaging and enlarged again; held-out pictures stay as they are.
        upscale_interpolation: interpolation that enlarges them again after source_size.
        cache: folder for cached latents and text embeddings.
        num_workers: processes that read batches ahead; 0 reads between the steps, half a millisecond per picture on a
            local disk; sets of 64 MiB, some 180 pictures of 512 px, are read once.
    """

    style: Style | None = None

    def __init__(
        self,
        root: str | None = None,
        resolution: int = 512,
        batch_size: int = 4,
        repeats: int = 1,
        held_out: float = 0.2,
        prompts: list[str] | None = None,
        prompts_file: str | None = None,
        negative_prompt: str = "",
        samples_per_prompt: int = 1,
        sample_batch_size: int = 8,
        interpolation: str | None = None,
        trigger: str | None = None,
        template: str | None = None,
        name: str | None = None,
        keep_tags: int | None = None,
        tag_dropout: float = 0.0,
        wildcards: bool = False,
        buckets: bool = False,
        no_upscale: bool = False,
        flip: bool = False,
        masks: str | None = None,
        prior: Prior = Prior(),
        pictures: int | None = None,
        pictures_seed: int = 0,
        source_size: int | None = None,
        upscale_interpolation: str = "bicubic",
        cache: str = ".cache/stylelora",
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer prompts than processes are no error
        if root is None and not (self.style and self.style.folder.is_dir()):
            raise InputError("this style comes without pictures; give data.root a folder of them")
        counts = {"batch_size": batch_size, "repeats": repeats, "sample_batch_size": sample_batch_size}
        counts["samples_per_prompt"] = samples_per_prompt
        if pictures is not None:
            counts["pictures"] = pictures
        elif pictures_seed:
            raise InputError("pictures_seed has no effect without pictures; give both or neither")
        if not 0 <= held_out < 1:
            raise InputError(f"held_out is {held_out}; give a share from 0 to below 1")
        if num_workers < 0:
            raise InputError(f"num_workers is {num_workers}; give a number of processes, at least 0")
        if low := [name for name, value in counts.items() if value < 1]:
            raise InputError(f"{' and '.join(low)} must be at least 1")
        style = self.style or Style(name="", trigger="")
        folder = style.folder if root is None else Path(root)
        check_is_folder(folder, "the data folder")
        made = (read_census(folder) or {}).get("settings", {})
        self.style_name = name or (style.name if root is None else folder.resolve().name)
        self.licence = style.licence if root is None else stated_licence(folder)
        self.trigger = trigger or made.get("trigger") or style.trigger
        if not self.trigger:
            raise InputError("the style has no trigger word; give one with data.trigger")
        interpolation = interpolation or made.get("interpolation") or style.interpolation
        template = template or made.get("template") or style.template
        framing = Framing(resolution, interpolation, buckets, no_upscale, source_size, upscale_interpolation)
        wording = Wording(self.trigger, template, keep_tags, tag_dropout, wildcards)
        prior.check(folder, self.trigger)
        self.prior = PriorPictures(prior)
        where = Masks(masks) if masks else None
        self.dataset = StyleDataset(folder, held_out, framing, wording, flip, repeats, where, pictures, pictures_seed)
        self.resolution, self.batch_size, self.num_workers = resolution, batch_size, num_workers
        chosen = choose_prompts(prompts or None, prompts_file, "prompts_file", negative_prompt, style.prompts)
        self.prompts = [one.without(self.trigger) if wording.adds_trigger else one for one in chosen]
        self.samples_per_prompt, self.sample_batch_size = samples_per_prompt, sample_batch_size
        self.cache, self._scanned = Path(cache), False

    @property
    def train(self) -> list[Picture]:
        """Return the pictures to train on."""
        return self.dataset.train

    @property
    def held_out(self) -> list[Picture]:
        """Return the pictures that are never trained on."""
        return self.dataset.held_out

    @property
    def dataset_hash(self) -> str:
        """Return a hash of all pictures and captions, for the result file."""
        return self.dataset.dataset_hash

    def caption(self, text: str) -> str:
        """Return the full caption or prompt of a content, trigger included."""
        return self.dataset.wording.caption(text)

    def scan(self) -> None:
        """Look into the folders; `prepare_data`, which comes next, does not look again."""
        self.dataset.scan()
        if self.prior.options.used and not self.prior.lacking:
            self.prior.scan(self.trigger)
        self._scanned = True

    def prepare_data(self) -> None:
        """Scan the folder and fill the cache, in the first process only; all errors and warnings come from here."""
        base = resolve_base(self.trainer.lightning_module.base)
        check_resolution(base, self.resolution)
        self._compare_resolution(base)
        check_prompts(self.prompts, base, [self.trainer.lightning_module.hparams.guidance_scale])
        if not self._scanned:
            self.dataset.scan()
        self._scanned = False
        self.dataset.warn_of_no_trigger()
        needed, given = self.batch_size * self.trainer.world_size, len(self.dataset.samples)
        if given < needed:
            raise InputError(
                f"one step needs {needed} pictures but {self.dataset.root} gives {given} per epoch; lower batch_size "
                "or raise repeats"
            )
        self.dataset.choose_sizes(size_step(base), needed)
        cache = self._open_cache()
        if self.prior.options.used and self.trainer.state.fn == "fit":
            self._prepare_prior(cache)
        self.dataset.encode(cache, self._prompt_texts())

    def _prepare_prior(self, cache: Cache) -> None:
        recipe, batch = self.trainer.lightning_module.hparams, self.sample_batch_size
        recipe = recipe.num_inference_steps, recipe.guidance_scale
        contents = [clean(picture.text, trigger=self.trigger) for picture in self.train]
        make_prior(self.prior, contents, cache, self.resolution, *recipe, batch)
        self.prior.scan(self.trigger)
        self.prior.encode(cache, self.dataset.sizes["train"])

    def _compare_resolution(self, base: Path) -> None:
        """Warn about a resolution at which the base itself makes poor pictures."""
        native = native_resolution(base)
        if self.resolution * 2 <= native or self.resolution >= native * 2:
            log.warning(
                "resolution is %d px but %s was made for %d px, so expect poor pictures; give --data.resolution %d",
                *(self.resolution, self.trainer.lightning_module.base, native, native),
            )

    def setup(self, stage: str) -> None:
        """Take over what the first process found in `prepare_data`."""
        del stage
        self.dataset.share()
        self.prior.share()
        fits = self.dataset.entry_bytes(self._open_cache()) * WORTH <= IN_MEMORY
        self.in_memory = IN_MEMORY if fits else 0
        self.encoded = self._open_cache(in_memory=self.in_memory)

    def _open_cache(self, device: torch.device | str | None = None, in_memory: int = 0) -> Cache:
        module = self.trainer.lightning_module
        device = device or self.trainer.strategy.root_device
        trained = getattr(module, "text_encoder", None) is not None  # then embeddings change with every step
        return Cache(self.cache, resolve_base(module.base), device, module.hparams.clip_skip, not trained, in_memory)

    def _prompt_texts(self) -> list[str]:
        contents = [one.prompt for one in self.prompts]
        return [*map(self.caption, contents), *contents, *(one.negative_prompt for one in self.prompts)]

    def _prompts(self, rows: list[int]) -> dict:
        batch = prompt_batch(self.prompts, rows, self.samples_per_prompt)
        prompts = [self.caption(content) for content in batch["content"]]
        width, height = batch["size"]
        shape = latent_shape(self.encoded.base, width or self.resolution, height or self.resolution)
        batch |= {"prompt": prompts, "latent_shape": shape}
        if self.encoded.keeps_texts:
            texts = {"text": prompts, "content_text": batch["content"], "negative_text": batch["negative_prompt"]}
            batch |= {name: self.encoded.texts(some) for name, some in texts.items()}
        return batch

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the training set; see `TrainingBatches`."""
        dataset, world, rank = self.dataset, self.trainer.world_size, self.trainer.global_rank
        buckets, seed = [dataset.sizes["train"][i] for i in dataset.samples], int(os.environ.get("PL_GLOBAL_SEED", 0))
        # workers must not touch the GPU
        cache = self._open_cache("cpu", self.in_memory // self.num_workers) if self.num_workers else self.encoded
        return TrainingLoader(
            TrainingBatches(dataset, self.prior, cache, seed),
            self.batch_size,
            sampler=EpochSampler(buckets, self.batch_size, world, rank, seed),
            collate_fn=dict,  # TrainingBatches gives whole batches
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> list[DataLoader]:
        """Return two loaders: held-out latents, and prompts to sample; both with one size per batch."""
        dataset, world, rank = self.dataset, self.trainer.world_size, self.trainer.global_rank
        batches = batches_of(dataset.sizes["held_out"], self.batch_size)

        def collate(rows: list[int]) -> dict:
            captions = [self.caption(dataset.held_out[row].text) for row in rows]
            return dataset.batch(self.encoded, "held_out", rows, [False] * len(rows), captions)

        sampler = ShareSampler(len(batches), world, rank)
        held_out = DataLoader(batches, batch_size=None, sampler=sampler, collate_fn=collate)  # None: an item is a batch
        ways = [one.way for one in self.prompts for _ in range(self.samples_per_prompt)]
        return [held_out, share_batches(ways, self.sample_batch_size, world, rank, self._prompts)]
