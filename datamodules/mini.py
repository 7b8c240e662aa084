"""Data of the embedded base's three training stages, all from one table of rendered icons."""

from __future__ import annotations

import random
from pathlib import Path

import lightning.pytorch as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from stylelora.base.tokenizer import train_tokenizer
from stylelora.data import augment
from stylelora.data.icon_table import (
    STYLE_PHRASES,
    TEST_SETS,
    TRAIN_SETS,
    build_icon_table,
    corpus,
    load_concepts,
    name_of,
    with_article,
)


class Icons(L.LightningDataModule):
    """Pictures for the autoencoder: every icon, in random views; validation on icon sets never trained on.

    Args:
        root: folder for the fetched archives and the rendered table.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    sets = {name: TRAIN_SETS[name] for name in ("noto", "twemoji", "fluent")}

    def __init__(self, root: str = ".cache/npm", batch_size: int = 16, size: int = 64) -> None:
        super().__init__()
        self.root, self.batch_size, self.size = Path(root), batch_size, size

    def prepare_data(self) -> None:
        """Fetch and render the icon sets (about 2 minutes, once)."""
        build_icon_table(self.sets, self.root, self.size)
        build_icon_table(TEST_SETS, self.root, self.size)

    def setup(self, stage: str) -> None:
        """Read the tables."""
        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        pick = torch.randperm(len(held_out.slugs), generator=torch.Generator().manual_seed(0))[:256]
        pixels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2)[pick]
        self.held_out = augment.composite(pixels, torch.ones(())) * 2 - 1

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Turn icons uint8 (B, 4, H, W) into random training pictures float (B, 3, H, W) in [-1, 1]."""
        rgba = augment.random_outline(rgba, 0.2)
        images = augment.composite(rgba, augment.random_background(len(rgba), rgba.shape[-1], white=0.5))
        images = augment.random_affine(images, zoom=(0.5, 2.0), shift=0.3, degrees=10, p=0.3)
        images = augment.random_texture(augment.random_colour(augment.random_flip(images), 0.5), 0.3)
        return images * 2 - 1

    def train_dataloader(self) -> DataLoader:
        """Endless epochs over the icons, shuffled."""
        collate = lambda rows: self.views(torch.stack([row[0] for row in rows]))  # noqa: E731
        return DataLoader(TensorDataset(self.train), self.batch_size, shuffle=True, drop_last=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        """256 pictures of unseen icon sets, float (B, 3, H, W) in [-1, 1]."""
        return DataLoader(self.held_out, 32)


class NamedIcons(Icons):
    """Pictures with their names for the scorer; validation names icons of unseen sets among the base's concepts."""

    sets = TRAIN_SETS

    def setup(self, stage: str) -> None:
        """Read the tables, learn the vocabulary, group the icons by name."""
        table = build_icon_table(self.sets, self.root, self.size)
        self.train = torch.from_numpy(table.pixels).permute(0, 3, 1, 2)
        self.phrases = [STYLE_PHRASES.get(name, "icon") for name in table.sets.tolist()]
        names = [name_of(slug) for slug in table.slugs.tolist()]
        self.tokenizer = train_tokenizer(corpus(table))
        self.names = sorted(set(names))
        self.rows = {name: [i for i, other in enumerate(names) if other == name] for name in self.names}

        held_out = build_icon_table(TEST_SETS, self.root, self.size)
        concepts = list(load_concepts().values())
        known = [(i, name_of(slug)) for i, slug in enumerate(held_out.slugs.tolist())]
        known = [(i, concepts.index(name)) for i, name in known if name in concepts]
        pixels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2)[[i for i, _ in known]]
        pixels = augment.composite(pixels, torch.ones(())) * 2 - 1
        self.held_out = TensorDataset(pixels, torch.tensor([label for _, label in known]))
        self.name_tokens = self.tokenize([with_article(name) for name in concepts])

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """Return token ids int (B, T), padded to the longest, at most 77."""
        return self.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids

    def views(self, rgba: torch.Tensor) -> torch.Tensor:
        """Random views as for the autoencoder, but with true colours, since captions name them."""
        images = augment.composite(rgba, augment.random_background(len(rgba), rgba.shape[-1], white=0.5))
        images = augment.random_affine(images, zoom=(0.6, 1.4), shift=0.25, degrees=20, p=0.8)
        images = augment.random_texture(augment.random_flip(images), 0.3)
        return augment.random_tone(images, 0.5) * 2 - 1

    def collate(self, names: list[str]) -> dict[str, torch.Tensor]:
        """Draw one picture and one wording for each name."""
        rows = [random.choice(self.rows[name]) for name in names]
        wording = ["{}", "{}", "a picture of {}", "a {phrase} of {}"]
        texts = [
            random.choice(wording).format(with_article(name), phrase=self.phrases[row])
            for name, row in zip(names, rows, strict=True)
        ]
        label = torch.tensor([self.names.index(name) for name in names])
        return {"pixel_values": self.views(self.train[rows]), "input_ids": self.tokenize(texts), "label": label}

    def train_dataloader(self) -> DataLoader:
        """Every name once per epoch, with the concepts of the generator eight times."""
        concepts = set(load_concepts().values())
        names = self.names + 7 * [name for name in self.names if name in concepts]
        return DataLoader(names, self.batch_size, shuffle=True, drop_last=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """Pictures float (B, 3, H, W) in [-1, 1] of unseen sets with the index of their name."""
        return DataLoader(self.held_out, 64)


def nonsense(count: int) -> list[str]:
    """Return made-up words, such as trigger words are: what is not known must not hide what is."""
    letters = random.Random(0)
    return ["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=letters.randint(3, 9))) for _ in range(count)]


class NamedLatents(Icons):
    """Latents of the concepts in each set's look, with captions, for the generator.

    Args:
        vae: folder of the trained autoencoder.
        variants: views per picture: the picture as it is, then slightly moved and scaled ones.
        made_up: share of captions that may have a made-up word beside the known ones, as trigger words are, 0..1.
        root: folder for the fetched archives and the rendered table.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    def __init__(
        self,
        vae: str = "runs/mini/base/vae",
        variants: int = 2,
        made_up: float = 0.0,
        root: str = ".cache/npm",
        batch_size: int = 32,
        size: int = 64,
    ) -> None:
        super().__init__(root, batch_size, size)
        self.vae_folder, self.variants, self.made_up = Path(vae), variants, made_up

    @torch.no_grad()
    def setup(self, stage: str) -> None:
        """Encode the pictures and all wordings of their captions."""
        from diffusers import AutoencoderKL

        self.vae = AutoencoderKL.from_pretrained(self.vae_folder).eval().requires_grad_(False)
        table = build_icon_table(self.sets, self.root, self.size)
        self.tokenizer = train_tokenizer(corpus(build_icon_table(TRAIN_SETS, self.root, self.size)))
        concepts = load_concepts()
        rows = [i for i, slug in enumerate(table.slugs.tolist()) if slug in concepts]
        pixels = torch.from_numpy(table.pixels[rows]).permute(0, 3, 1, 2)
        images = augment.composite(pixels, torch.ones(()))
        views = [images] + [
            augment.random_affine(images, zoom=(0.8, 1.0), shift=0.08, degrees=0, p=1.0)
            for _ in range(self.variants - 1)
        ]
        latents = [self.vae.encode(part * 2 - 1).latent_dist.mean for part in torch.cat(views).split(64)]
        self.latents = torch.cat(latents)
        wording = ["{name}", "{a_name}", "{a_name}", "a {phrase} of {a_name}", "a {phrase} of {a_name}"]
        self.plain = len(wording)
        wording += [put for word in nonsense(24) for put in (f"{word}, {{a_name}}", f"{{a_name}}, {word}")]
        texts = [
            words.format(
                name=concepts[table.slugs[row]],
                a_name=with_article(concepts[table.slugs[row]]),
                phrase=STYLE_PHRASES[table.sets[row]],
            )
            for row in rows
            for words in wording
        ]
        self.captions = self.tokenize(texts).view(len(rows), len(wording), 77).repeat(self.variants, 1, 1)
        self.empty_ids = self.tokenize([""])[0]

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """Return token ids int (B, 77), padded as Stable Diffusion pads."""
        return self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids

    def collate(self, rows: list[int]) -> dict:
        """Join latents with one wording each."""
        anyhow, plain = (torch.randint(count, (len(rows),)) for count in (self.captions.shape[1], self.plain))
        wording = torch.where(torch.rand(len(rows)) < self.made_up, anyhow, plain)
        return {
            "latents": self.latents[rows],
            "input_ids": self.captions[rows, wording],
            "empty_ids": self.empty_ids,
        }

    def train_dataloader(self) -> DataLoader:
        """Every view once per epoch."""
        rows = range(len(self.latents))
        return DataLoader(rows, self.batch_size, shuffle=True, drop_last=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """24 prompts over the kinds of concepts and the looks."""
        names = list(load_concepts().values())[::5][:24]
        looks = ["{}", *(f"a {phrase} of {{}}" for phrase in STYLE_PHRASES.values())]
        ids = self.tokenize([looks[i % 4].format(with_article(name)) for i, name in enumerate(names)])
        batch = {"input_ids": ids, "empty_ids": self.empty_ids, "shape": list(self.latents.shape[1:])}
        return DataLoader([batch], batch_size=None)
