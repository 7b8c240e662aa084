"""Pictures with names for the scorer."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from datamodules.pretraining.icons import Icons
from stylelora.base.concepts import load_concepts, name_of, with_article
from stylelora.files import safetensors_bytes, write
from stylelora.pretraining import augment
from stylelora.pretraining.icon_table import STYLE_PHRASES, TEST_SETS, build_icon_table, corpus
from stylelora.pretraining.tokenizer import train_tokenizer


class NamedIcons(Icons):
    """Pictures with their names and what a teacher sees in them, for the scorer.

    Validation names icons of unseen sets among the base's concepts.

    Args:
        views_per_icon: random views per picture, made once, since the teacher is slower than the pupil.
        root: folder for the fetched archives and the rendered table.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    def __init__(
        self, views_per_icon: int = 4, root: str = ".cache/npm", batch_size: int = 128, size: int = 64
    ) -> None:
        super().__init__(root, batch_size, size)
        self.views_per_icon = views_per_icon

    @property
    def lesson(self) -> Path:
        """Path of the cached views and teacher features."""
        return self.root / f"lesson-{self.views_per_icon}-{self.size}.safetensors"

    def prepare_data(self) -> None:
        """Fetch and render the icon sets, and let the teacher see random views of them (7 minutes, once)."""
        super().prepare_data()
        if self.lesson.is_file():
            return
        from stylelora.metrics.efficientnet import EfficientNetLite0

        teacher = EfficientNetLite0()
        rgba = torch.from_numpy(build_icon_table(self.sets, self.root, self.size).pixels).permute(0, 3, 1, 2)
        rounds = [torch.cat([self.views(part) for part in rgba.split(64)]) for _ in range(self.views_per_icon)]
        images = torch.cat(rounds)
        lesson = {"images": images, "features": teacher.encode_images(images).half()}
        write(self.lesson, safetensors_bytes(lesson, {}))

    def setup(self, stage: str) -> None:
        """Read the tables, learn the vocabulary, name the icons."""
        from safetensors.torch import load_file

        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        lesson = load_file(self.lesson)
        self.images, features = lesson["images"], lesson["features"].float()
        self.features = F.normalize((features - features.mean(0)) / (features.std(0) + 1e-3), dim=1)
        self.phrases = [STYLE_PHRASES.get(name, "icon") for name in table.sets.tolist()]
        self.icon_names = [name_of(slug) for slug in table.slugs.tolist()]
        self.names = {name: i for i, name in enumerate(sorted(set(self.icon_names)))}
        self.tokenizer = train_tokenizer(corpus(table))

        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        concepts = load_concepts()
        known = [i for i, slug in enumerate(held_out.slugs.tolist()) if slug in concepts]
        pixels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2)[known]
        pixels = augment.flattened(pixels, torch.ones(())) * 2 - 1
        label = torch.tensor([list(concepts).index(held_out.slugs[i]) for i in known])
        self.held_out = TensorDataset(pixels, label)
        self.name_tokens = self.tokenize([with_article(name) for name in concepts.values()])

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """Return token ids int (B, T), padded to the longest, at most 77."""
        return self.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn icons uint8 (B, 4, H, W) into random views uint8 (B, 3, H, W), some with textures that styles have."""
        images = augment.flattened(rgba, augment.random_background(len(rgba), rgba.shape[-1], white=0.6))
        images = augment.random_affine(images, zoom=(0.6, 1.4), shift=0.2, degrees=15, p=0.8)
        images = augment.random_tone(augment.random_texture(images, 0.3), 0.5)
        return (images * 255).round().to(torch.uint8)

    def collate(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """Collate randomly mirrored views, each with one wording of its name."""
        icons = [row % len(self.icon_names) for row in rows]
        names = [self.icon_names[icon] for icon in icons]
        wording = ["{}", "{}", "a picture of {}", "a {phrase} of {}"]
        texts = [
            random.choice(wording).format(with_article(name), phrase=self.phrases[icon])
            for name, icon in zip(names, icons, strict=True)
        ]
        return {
            "pixel_values": augment.random_flip(self.images[rows].float() / 127.5 - 1),
            "input_ids": self.tokenize(texts),
            "label": torch.tensor([self.names[name] for name in names]),
            "features": self.features[rows],
        }

    def train_dataloader(self) -> DataLoader:
        """Every view once per epoch, those of the generator's concepts three times."""
        concepts, count = set(load_concepts().values()), len(self.icon_names)
        often = [3 if name in concepts else 1 for name in self.icon_names]
        rows = [row for row in range(len(self.images)) for _ in range(often[row % count])]
        return DataLoader(rows, self.batch_size, shuffle=True, drop_last=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """Pictures float (B, 3, H, W) in [-1, 1] of unseen sets with the index of their name."""
        return DataLoader(self.held_out, 64)
