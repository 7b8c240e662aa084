"""The data of one style: a folder of captioned pictures becomes latents, held-out latents and prompts."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import lightning.pytorch as L
from torch.utils.data import DataLoader

from datamodules.sampler import EpochSampler, ShareSampler
from stylelora.base.load import check_resolution, resolve_base
from stylelora.data.cache import encode_pictures, encode_texts
from stylelora.data.embedded import folder as embedded_folder
from stylelora.data.scan import scan_folder, split_by_content
from stylelora.records import InputError

log = logging.getLogger(__name__)

#: Content of the pictures sampled every epoch, when a run file names no others. All are words that "mini" knows.
PROMPTS = ("a cat", "a dog", "a red apple", "a car", "a house", "a tree", "a butterfly", "a robot")


class StyleDataModule(L.LightningDataModule):
    """Captioned pictures of one style, as cached latents and text embeddings.

    A style sets the class attributes; everything else is here. Pictures are scaled and cropped to a square, encoded
    once with the base's autoencoder, and split by the hash of their content. The base is the one the model names.

    Args:
        root: folder of pictures with `metadata.jsonl` or `.txt` captions; left out: the style's embedded pictures.
        resolution: side in pixels that pictures are brought to.
        batch_size: pictures per device and step.
        repeats: how often each picture is seen per epoch.
        held_out: expected share of pictures that are never trained on, 0..1.
        prompts: content of the sampled pictures, without trigger word; left out: the style's own.
        samples_per_prompt: pictures per prompt, with seeds 0, 1, ...
        sample_batch_size: pictures made at once while sampling.
        kernel: resampling kernel: nearest, box, bilinear, bicubic or lanczos; left out: the style's own.
        trigger: word that stands for the style; left out: the style's own.
        cache: folder of the cached latents and text embeddings.
    """

    style: str | None = None
    default_trigger: str | None = None
    default_kernel = "lanczos"
    default_prompts: tuple[str, ...] = PROMPTS
    template = "{trigger}, {text}"

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
        kernel: str | None = None,
        trigger: str | None = None,
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
        self.trigger = trigger or self.default_trigger
        if not self.trigger:
            raise InputError("a style needs a trigger word; give data.init_args.trigger one")
        self.resolution, self.batch_size, self.repeats, self.held_out_share = resolution, batch_size, repeats, held_out
        self.contents = list(prompts or self.default_prompts)
        self.samples_per_prompt, self.sample_batch_size = samples_per_prompt, sample_batch_size
        self.kernel, self.cache = kernel or self.default_kernel, Path(cache)

    def caption(self, text: str) -> str:
        """Return the full caption or prompt of a content text, trigger in front."""
        return self.template.format(trigger=self.trigger, text=text)

    def _encode(self) -> None:
        """Read the folder and fetch every tensor from the cache, filling it where needed."""
        base = resolve_base(self.trainer.lightning_module.base)
        check_resolution(base, self.resolution)
        device = self.trainer.strategy.root_device
        pictures = scan_folder(self.root)
        self.train, self.held_out = split_by_content(pictures, self.held_out_share)
        needed = self.batch_size * self.trainer.world_size
        if len(self.train) * self.repeats < needed:
            raise InputError(
                f"one step needs {needed} pictures but {self.root} gives {len(self.train) * self.repeats} per epoch; "
                "lower batch_size or raise repeats"
            )
        texts = {
            "train": [self.caption(picture.text) for picture in self.train],
            "held_out": [self.caption(picture.text) for picture in self.held_out],
            "text": [self.caption(content) for content in self.contents],
            "content_text": self.contents,
            "empty_text": [""],
        }
        together = encode_texts([text for some in texts.values() for text in some], base, self.cache, device)
        encoded = dict(zip(texts, together.split([len(some) for some in texts.values()]), strict=True))
        self.tensors = {
            side: encode_pictures(members, base, self.resolution, self.kernel, self.cache, device)
            | {"text": encoded[side]}
            for side, members in {"train": self.train, "held_out": self.held_out}.items()
        }
        self.prompt_texts = {name: encoded[name] for name in ("text", "content_text", "empty_text")}

    def prepare_data(self) -> None:
        """Fill the cache, in one process only."""
        self._encode()
        small = [min(picture.size) for picture in [*self.train, *self.held_out] if min(picture.size) < self.resolution]
        if small and self.kernel != "nearest":  # pixel art is meant to be enlarged
            total = len(self.train) + len(self.held_out)
            log.warning(
                "%d of %d pictures in %s are smaller than %d px and are enlarged, the smallest from %d px",
                *(len(small), total, self.root, self.resolution, min(small)),
            )

    def setup(self, stage: str) -> None:
        """Load what `prepare_data` cached."""
        del stage
        self._encode()

    @property
    def fingerprint(self) -> str:
        """Hash of all pictures and captions, for the result file."""
        from hashlib import sha256

        rows = sorted(f"{picture.sha256} {picture.text}" for picture in [*self.train, *self.held_out])
        return sha256("\n".join(rows).encode()).hexdigest()

    def _rows(self, side: str, rows: list[int]) -> dict:
        members, tensors = getattr(self, side), self.tensors[side]
        pick = [row % len(members) for row in rows]
        batch = {name: tensor[pick] for name, tensor in tensors.items()}
        batch["empty_text"] = self.prompt_texts["empty_text"]
        return batch | {"row": rows, "sha256": [members[i].sha256 for i in pick]}

    def _prompts(self, rows: list[int]) -> dict:
        pick = [row // self.samples_per_prompt for row in rows]
        return {
            "index": rows,
            "seed": [row % self.samples_per_prompt for row in rows],
            "prompt": [self.caption(self.contents[i]) for i in pick],
            "content": [self.contents[i] for i in pick],
            "text": self.prompt_texts["text"][pick],
            "content_text": self.prompt_texts["content_text"][pick],
            "empty_text": self.prompt_texts["empty_text"],
            "latent_shape": tuple(self.tensors["train"]["mean"].shape[1:]),
        }

    def train_dataloader(self) -> DataLoader:
        """Latents `mean`, `std` (B, C, h, w), `text` (B, T, D), the sample's `row` and its picture's `sha256`."""
        count, world, rank = len(self.train) * self.repeats, self.trainer.world_size, self.trainer.global_rank
        sampler = EpochSampler(count, self.batch_size, world, rank, int(os.environ.get("PL_GLOBAL_SEED", 0)))
        collate = lambda rows: self._rows("train", rows)  # noqa: E731
        return DataLoader(range(count), self.batch_size, sampler=sampler, collate_fn=collate)

    def val_dataloader(self) -> list[DataLoader]:
        """Return two loaders: the held-out latents, and the prompts to sample."""
        world, rank = self.trainer.world_size, self.trainer.global_rank

        def loader(count: int, batch_size: int, collate: object) -> DataLoader:
            return DataLoader(
                range(count), batch_size, sampler=ShareSampler(count, world, rank), collate_fn=collate, num_workers=0
            )

        held_out = loader(len(self.held_out), self.batch_size, lambda rows: self._rows("held_out", rows))
        prompts = loader(len(self.contents) * self.samples_per_prompt, self.sample_batch_size, self._prompts)
        return [held_out, prompts]
