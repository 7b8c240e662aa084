"""Latents of many drawings in many looks, with captions, for the generator's second generation."""

from __future__ import annotations

import random

from torch.utils.data import DataLoader, WeightedRandomSampler

from datamodules.pretraining.named_latents import NamedLatents, kind_of, made_up_word
from stylelora.base.concepts import load_concepts, name_of, with_article
from stylelora.pretraining.gallery import GLYPH_PHRASES, PHRASES, build_gallery
from stylelora.pretraining.icon_table import STYLE_PHRASES, IconTable
from stylelora.pretraining.looks import LOOKS
from stylelora.pretraining.people import PORTRAITS
from stylelora.pretraining.recolour import COLOURS
from stylelora.pretraining.scenes import Scene, describe, held_out, scenes_of

#: Sampling weight of a drawing; an icon of a concept has 1.
WEIGHTS = dict.fromkeys(STYLE_PHRASES, 1.0) | dict.fromkeys(GLYPH_PHRASES, 0.35) | dict.fromkeys(PORTRAITS, 0.12)


class LookedLatents(NamedLatents):
    """Latents of icons, glyphs and people, each in its own look and in looks that its caption names.

    A made-up word stands beside known ones only, and changes nothing: a picture without a look's name is plain.

    Args:
        vae: folder of the trained autoencoder.
        tokenizer: folder of the tokenizer to go on with; null: learn one from the icons' names.
        variants: views of each icon alone: as it is, then slightly moved and scaled ones; a third as many in each look.
        people: people drawn of each set.
        made_up: share of captions that have a made-up word beside the known ones, as trigger words are, 0..1.
        num_workers: processes that draw scenes and write captions; 0: the main one does. A GPU needs some twelve.
        root: folder for the fetched archives, the rendered tables and the latents.
        batch_size: pictures per step.
        size: side of the pictures in pixels.
    """

    shares = {"plain": 0.32, "colour": 0.13, "count": 0.05, "background": 0.08, "look": 0.42}

    def __init__(
        self,
        vae: str = "runs/mini/base/vae",
        tokenizer: str | None = None,
        variants: int = 3,
        people: int = 250,
        made_up: float = 0.3,
        num_workers: int = 0,
        root: str = ".cache/npm",
        batch_size: int = 32,
        size: int = 64,
    ) -> None:
        super().__init__(vae, tokenizer, variants, made_up, num_workers, root, batch_size, size)
        self.people = people

    def gallery(self) -> IconTable:
        """Return every icon, glyph and person."""
        return build_gallery(self.root, self.people, self.size)

    def drawings(self) -> list[tuple[int, Scene]]:
        """Return (row of the gallery, scene) of every latent, in their order; the same in every run."""
        drawn, rng = [], random.Random(0)
        for row, (slug, name) in enumerate(zip(self.table.slugs.tolist(), self.table.sets.tolist(), strict=True)):
            thing, own = load_concepts().get(slug), name in STYLE_PHRASES
            scenes = scenes_of(thing) if thing and own else [Scene(), Scene(background=rng.choice(list(COLOURS)))]
            scenes += [Scene(moved=True)] * (self.variants - 1)
            drawn += [(row, scene) for scene in scenes]
            for _ in range(max(1, self.variants // 3)):
                looks = list(LOOKS) if name not in PORTRAITS else rng.sample(list(LOOKS), 2)
                drawn += [(row, self.scene_in(look, thing if own else None, rng)) for look in looks]
        return drawn

    @staticmethod
    def scene_in(look: str, thing: str | None, rng: random.Random) -> Scene:
        """Return a random scene in a look; only a known concept's own icon is recoloured."""
        kind, colour = rng.random(), rng.choice(list(COLOURS))
        if kind < 0.25 and thing and not held_out(thing, colour):
            return Scene(colour=colour, look=look)
        if kind > 0.85:
            return Scene(background=colour, look=look)
        return Scene(moved=rng.random() < 0.5, look=look)

    def caption(self, row: int, scene: Scene) -> str:
        """Compose a caption: the concept, its look if any, sometimes its set's look, sometimes a made-up word."""
        slug, phrase = self.table.slugs[row].item(), PHRASES[self.table.sets[row]]
        words = name_of(slug) if kind_of(scene) == "plain" and random.random() < 0.2 else describe(name_of(slug), scene)
        if scene.look is not None and random.random() < 0.3:
            words = f"{words}, {scene.look}"
        elif scene.look is not None:
            look = f"{scene.look} {random.choice((phrase, 'picture'))}"
            words = f"{with_article(look)} of {words}"
        elif random.random() < (0.4 if self.table.sets[row] in STYLE_PHRASES else 0.8):
            words = f"{with_article(phrase)} of {words}"
        if random.random() < self.made_up:
            words = random.choice(("{0}, {1}", "{1}, {0}", "{1} in {0} style")).format(made_up_word(), words)
        return words

    def train_dataloader(self) -> DataLoader:
        """Drawings at random, by the weight of their set; an epoch is 500 steps."""
        rows = list(self.groups)
        sampler = WeightedRandomSampler([WEIGHTS[self.table.sets[row]] for row in rows], 500 * self.batch_size)
        workers = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0}
        return DataLoader(rows, self.batch_size, sampler=sampler, collate_fn=self.collate, **workers)

    def val_dataloader(self) -> DataLoader:
        """64 prompts: things plain and with a made-up word, in every look, as glyphs; people; colours and numbers."""
        names = list(load_concepts().values())
        texts = [form.format(with_article(name)) for form in ("{}", "wqstyle, {}") for name in names[::39]]
        texts += [f"{with_article(look)} picture of a {name}" for name in ("house", "cat") for look in LOOKS]
        texts += [f"{with_article(phrase)} of a cat" for phrase in (*STYLE_PHRASES.values(), *GLYPH_PHRASES.values())]
        person = "a smiling person with long red hair"
        texts += [f"{with_article(known.phrase)} of {person}" for known in PORTRAITS.values()]
        scenes = (Scene(colour="blue"), Scene(count=2), Scene(background="yellow"), Scene(count=3))
        texts += [describe(name, scene) for name, scene in zip(("car", "cat", "tree", "apple"), scenes, strict=True)]
        texts += ["a girl with long orange hair", person]
        batch = {"input_ids": self.tokenize(texts), "empty_ids": self.empty_ids, "shape": list(self.latents.shape[1:])}
        return DataLoader([batch], batch_size=None)
