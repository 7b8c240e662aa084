"""Latents with captions for the generator."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from datamodules.pretraining.icons import Icons
from stylelora.base.concepts import load_concepts, with_article
from stylelora.base.load import part_hash
from stylelora.files import replacing
from stylelora.pretraining import augment
from stylelora.pretraining.icon_table import STYLE_PHRASES, IconTable, build_icon_table, corpus
from stylelora.pretraining.looks import drawn_in
from stylelora.pretraining.scenes import Scene, describe, draw, scenes_of
from stylelora.pretraining.tokenizer import train_tokenizer

#: Sampling weight of each kind of scene: alone, recoloured, two or three, on a coloured background.
SHARES = {"plain": 0.57, "colour": 0.25, "count": 0.08, "background": 0.1}


def made_up_word() -> str:
    """Return a random word like a trigger word, so that unknown words do not mask known ones."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=random.randint(4, 9)))


def kind_of(scene: Scene) -> str:
    """Return the key of SHARES that a scene belongs to."""
    if scene.look is not None:
        return "look"
    if scene.background is not None:
        return "background"
    return "count" if scene.count > 1 else "plain" if scene.colour is None else "colour"


class NamedLatents(Icons):
    """Latents of the concepts in each set's look and in every scene, with captions, for the generator.

    Args:
        vae: folder of the trained autoencoder.
        variants: views of each icon alone: as it is, then slightly moved and scaled ones.
        tokenizer: folder of the tokenizer to go on with; null: learn one from the icons' names.
        made_up: share of captions that have a made-up word beside the known ones, as trigger words are, 0..1.
        num_workers: processes that draw scenes and write captions; 0: the main one does. A GPU needs some twelve.
        root: folder for the fetched archives, the rendered table and the latents.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    shares = SHARES

    def __init__(
        self,
        vae: str = "runs/mini/base/vae",
        tokenizer: str | None = None,
        variants: int = 3,
        made_up: float = 0.3,
        num_workers: int = 0,
        root: str = ".cache/npm",
        batch_size: int = 32,
        size: int = 64,
    ) -> None:
        super().__init__(root, batch_size, size)
        self.vae_folder, self.variants, self.made_up, self.num_workers = Path(vae), variants, made_up, num_workers
        self.tokenizer_folder = tokenizer

    @property
    def encoded(self) -> Path:
        """File of the latents, named after the autoencoder that made them."""
        key = part_hash(self.vae_folder.parent, self.vae_folder.name)[:12]
        return self.root / f"latents-{type(self).__name__}-{key}-{self.variants}-{self.size}.pt"

    def gallery(self) -> IconTable:
        """Return the drawings that scenes are made of."""
        return build_icon_table(self.sets, self.root, self.size)

    def drawings(self) -> list[tuple[int, Scene]]:
        """Return (row of the table, scene) of every latent, in their order."""
        concepts = load_concepts()
        wanted = [
            row
            for row, (slug, name) in enumerate(zip(self.table.slugs, self.table.sets, strict=True))
            if slug in concepts and name in STYLE_PHRASES
        ]
        scenes = {slug: [Scene(moved=True)] * (self.variants - 1) + scenes_of(name) for slug, name in concepts.items()}
        return [(row, scene) for row in wanted for scene in scenes[self.table.slugs[row]]]

    def prepare_data(self) -> None:
        """Fetch and render the icons; draw and encode every scene (4 minutes, once per autoencoder)."""
        super().prepare_data()
        if not self.encoded.is_file():
            latents = self.encode()
            with replacing(self.encoded) as file:
                torch.save(latents, file)

    @torch.no_grad()
    def encode(self) -> torch.Tensor:
        """Return the latents of all drawings, float32 (N, C, h, w); on a GPU if there is one."""
        self.table = self.gallery()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        vae, latents = self.load_vae().to(device), []

        def drawn(part: list[tuple[int, Scene]]) -> tuple[list[Scene], np.ndarray]:
            scenes = [scene for _, scene in part]
            return scenes, np.stack([draw(self.table.pixels[row], scene) for row, scene in part])

        for scenes, pixels in DataLoader(self.drawings(), 64, num_workers=self.num_workers, collate_fn=drawn):
            images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
            moved = augment.random_affine(images, zoom=(0.8, 1.0), shift=0.08, degrees=0, p=1.0)
            still = torch.tensor([not scene.moved for scene in scenes], device=device).view(-1, 1, 1, 1)
            images = drawn_in(torch.where(still, images, moved), [scene.look for scene in scenes])
            latents.append(vae.encode(images * 2 - 1).latent_dist.mean.cpu())
        return torch.cat(latents)

    def load_vae(self) -> torch.nn.Module:
        """Load the autoencoder, frozen."""
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(self.vae_folder).eval().requires_grad_(False)

    def setup(self, stage: str) -> None:
        """Read the latents, and group them by icon and kind of scene."""
        from transformers import CLIPTokenizer

        self.vae = self.load_vae()
        self.table = self.gallery()
        if self.tokenizer_folder is None:
            self.tokenizer = train_tokenizer(corpus(self.table))
        else:
            self.tokenizer = CLIPTokenizer.from_pretrained(self.tokenizer_folder)
        self.latents = torch.load(self.encoded, weights_only=True)
        self.scenes = self.drawings()
        self.groups: dict[int, dict[str, list[int]]] = {}
        for index, (row, scene) in enumerate(self.scenes):
            self.groups.setdefault(row, {}).setdefault(kind_of(scene), []).append(index)
        self.empty_ids = self.tokenize([""])[0]

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """Return token ids int (B, 77), padded as Stable Diffusion pads."""
        return self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids

    def caption(self, row: int, scene: Scene) -> str:
        """Compose a caption: the concept, sometimes with its set's look, sometimes with a made-up word."""
        name = load_concepts()[self.table.slugs[row]]
        words = name if kind_of(scene) == "plain" and random.random() < 0.2 else describe(name, scene)
        if random.random() < 0.4:
            words = f"a {STYLE_PHRASES[self.table.sets[row]]} of {words}"
        if random.random() < self.made_up:
            words = random.choice(("{0}, {1}", "{1}, {0}", "{1} in {0} style")).format(made_up_word(), words)
        return words

    def collate(self, rows: list[int]) -> dict:
        """Sample one scene and one wording per icon."""
        picked = []
        for row in rows:
            group = self.groups[row]
            kinds = list(group)
            picked.append(random.choice(group[random.choices(kinds, [self.shares[kind] for kind in kinds])[0]]))
        texts = [self.caption(*self.scenes[index]) for index in picked]
        return {"latents": self.latents[picked], "input_ids": self.tokenize(texts), "empty_ids": self.empty_ids}

    def train_dataloader(self) -> DataLoader:
        """Every icon once per epoch."""
        rows = list(self.groups)
        return DataLoader(rows, self.batch_size, shuffle=True, drop_last=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        """32 prompts: things in all looks, then colours, numbers and backgrounds."""
        names = list(load_concepts().values())[::11]
        looks = ["{}", *(f"a {phrase} of {{}}" for phrase in STYLE_PHRASES.values())]
        texts = [looks[i % 4].format(with_article(name)) for i, name in enumerate(names[:20])]
        scenes = [Scene(colour="blue"), Scene(colour="green"), Scene(count=2), Scene(background="yellow")] * 3
        texts += [describe(name, scene) for name, scene in zip(names[2:], scenes, strict=False)]
        batch = {"input_ids": self.tokenize(texts), "empty_ids": self.empty_ids, "shape": list(self.latents.shape[1:])}
        return DataLoader([batch], batch_size=None)
