"""The stages that made the embedded base run, on random icons, and what they promise holds."""

import copy
import random

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datamodules.pretraining import Icons, LookedIcons, LookedLatents, NamedIcons, NamedLatents, StyledIcons
from datamodules.pretraining.named_latents import SHARES, kind_of, made_up_word
from lightning_modules.pretraining import (
    MiniAutoencoder,
    MiniGenerator,
    MiniScorer,
    MiniScorerNames,
    MiniSharpAutoencoder,
    MiniStyleEncoder,
)
from lightning_modules.pretraining.autoencoder import align_latents, normalise_latents
from lightning_modules.pretraining.generator import moving_average
from stylelora.base.concepts import load_concepts, name_of, with_article
from stylelora.pretraining.adversary import critic_loss, deceiving_loss, patch_critic
from stylelora.pretraining.augment import flattened, random_outline
from stylelora.pretraining.gallery import GLYPH_PHRASES
from stylelora.pretraining.icon_table import GLYPH_SETS, STYLE_PHRASES, STYLE_SETS, TEST_SETS, TRAIN_SETS
from stylelora.pretraining.looks import LOOKS
from stylelora.pretraining.people import HAIR, PORTRAITS, draw_person
from stylelora.pretraining.scenes import draw


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Tables as `build_icon_table` keeps them, so that nothing is fetched."""
    root = tmp_path_factory.mktemp("icons")
    slugs = list(load_concepts())[:12]
    for sets in (GLYPH_SETS, TRAIN_SETS, TEST_SETS, TRAIN_SETS | STYLE_SETS):
        rows = [(slug, name) for name in sets for slug in slugs]
        pixels = np.random.default_rng(0).integers(0, 256, (len(rows), 64, 64, 4), dtype=np.uint8)
        slug, name = map(np.array, zip(*rows, strict=True))
        np.savez(root / f"icons-{'+'.join(sets)}-64.npz", pixels=pixels, slugs=slug, sets=name)
    words, sets = np.array(["smiling person with red hair"] * len(PORTRAITS)), np.array(list(PORTRAITS))
    np.savez(root / "people-1-64.npz", pixels=pixels[: len(PORTRAITS)], words=words, sets=sets)
    views = torch.from_numpy(pixels[:, :, :, :3].copy()).permute(0, 3, 1, 2)[: 12 * len(TRAIN_SETS)].contiguous()
    save_file({"images": views, "features": torch.rand(len(views), 1280).half()}, root / "lesson-1-64.safetensors")
    return str(root)


def fit(module, data, folder):
    trainer = L.Trainer(
        default_root_dir=folder, max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, val_check_interval=1,
        check_val_every_n_epoch=None, limit_val_batches=1,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


@pytest.mark.slow
def test_the_stages_give_a_base_that_loads(root, tmp_path):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPModel

    base = tmp_path / "base"
    fit(MiniAutoencoder(output=str(base / "vae")), Icons(root, batch_size=4), tmp_path)
    fit(MiniAutoencoder(init_from=str(base / "vae"), output=str(base / "vae")), Icons(root, batch_size=4), tmp_path)
    before = MiniAutoencoder(init_from=str(base / "vae")).vae
    decoder = MiniAutoencoder(init_from=str(base / "vae"), decoder_only=True, output=str(base / "vae"))
    fit(decoder, Icons(root, batch_size=4), tmp_path)
    assert torch.equal(decoder.vae.encoder.conv_in.weight, before.encoder.conv_in.weight)
    assert not torch.equal(decoder.vae.decoder.conv_in.weight, before.decoder.conv_in.weight)
    sharp = MiniSharpAutoencoder(init_from=str(base / "vae"), output=str(base / "vae"))
    fit(sharp, LookedIcons(people=1, root=root, batch_size=4), tmp_path)
    fit(MiniScorer(output=str(base / "scorer")), NamedIcons(views_per_icon=1, root=root, batch_size=4), tmp_path)
    frozen = MiniScorerNames(init_from=str(base / "scorer"), output=str(base / "scorer"))
    before = frozen.clip.vision_model.state_dict()["post_layernorm.weight"].clone()
    fit(frozen, NamedIcons(views_per_icon=1, root=root, batch_size=4), tmp_path)
    assert torch.equal(frozen.clip.vision_model.state_dict()["post_layernorm.weight"], before)
    styles = StyledIcons(str(base), sets_per_step=2, renderings=2, pictures=2, decoded=1, root=root)
    fit(MiniStyleEncoder(output=str(base / "style_encoder")), styles, tmp_path)
    data = NamedLatents(vae=str(base / "vae"), variants=1, root=root, batch_size=4)
    fit(MiniGenerator(output=str(base)), data, tmp_path)
    again = MiniGenerator(init_from=str(base), output=str(base))
    assert all(parameter.requires_grad for parameter in again.unet.parameters())
    words = NamedLatents(vae=str(base / "vae"), tokenizer=str(base / "tokenizer"), variants=1, root=root)
    words.setup("fit")
    assert words.tokenizer.get_vocab() == data.tokenizer.get_vocab()
    vocabulary = str(base / "tokenizer")
    looked = LookedLatents(str(base / "vae"), vocabulary, variants=1, people=1, root=root, batch_size=4)
    fit(MiniGenerator(init_from=str(base), output=str(base)), looked, tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat", num_inference_steps=1, height=64, width=64).images[0].size == (64, 64)
    assert CLIPModel.from_pretrained(base / "scorer").config.vision_config.image_size == 64
    assert list((tmp_path / "samples").glob("step=*.png"))


def encoded(kind, root, folder, **options):
    """An untrained autoencoder, and a data module with the latents that it gives."""
    vae = MiniAutoencoder().vae.eval()
    vae.save_pretrained(folder / "vae")
    data = kind(vae=str(folder / "vae"), root=root, batch_size=4, **options)
    data.prepare_data()
    data.setup("fit")
    return vae, data


@pytest.mark.slow
def test_captions_say_what_the_latents_show(root, tmp_path):
    vae, data = encoded(NamedLatents, root, tmp_path, variants=2, made_up=0.5)
    assert len(data.latents) == len(data.scenes)
    random.seed(0)
    kinds = set()
    for index in range(0, len(data.scenes), 37):
        row, scene = data.scenes[index]
        name = load_concepts()[data.table.slugs[row]]
        assert name.split()[0][:3] in data.caption(row, scene)
        assert scene.colour is None or scene.colour in data.caption(row, scene)
        if not scene.moved:
            pixels = torch.from_numpy(draw(data.table.pixels[row], scene).copy()).permute(2, 0, 1)[None] / 127.5 - 1
            with torch.no_grad():
                want = vae.encode(pixels).latent_dist.mean[0]
            assert torch.allclose(data.latents[index], want, atol=1e-4)
        kinds.add(kind_of(scene))
    assert kinds == set(SHARES)
    phrases = [data.caption(*data.scenes[0]) for _ in range(50)]
    assert any("shaded icon" in phrase for phrase in phrases), "row 0 is of the Noto set"
    assert not any("flat icon" in phrase for phrase in phrases)


def test_normalising_latents_changes_no_picture():
    vae = MiniAutoencoder().vae.eval().requires_grad_(False)
    images = torch.rand(32, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = vae.encode(images).latent_dist
    pictures = vae.decode(before.mean).sample
    std = before.mean.std((0, 2, 3), keepdim=True)
    normalise_latents(vae, images)
    after = vae.encode(images).latent_dist
    assert torch.allclose(after.mean.mean((0, 2, 3)), torch.zeros(24), atol=1e-4)
    assert torch.allclose(after.mean.std((0, 2, 3)), torch.ones(24), atol=1e-3)
    assert torch.allclose(after.std * std, before.std, rtol=1e-3)
    assert torch.allclose(vae.decode(after.mean).sample, pictures, atol=1e-4)


def test_a_critic_and_the_decoder_teach_each_other_nothing():
    critic, decoded = patch_critic(), torch.rand(2, 3, 16, 16, requires_grad=True)
    deceiving_loss(critic, decoded).backward()
    assert decoded.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())
    decoded.grad = None
    critic_loss(critic, decoded, torch.rand(2, 3, 16, 16)).backward()
    assert decoded.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_latents_brought_back_change_no_picture():
    torch.manual_seed(0)
    before, images = MiniAutoencoder().vae.eval(), torch.rand(8, 3, 64, 64) * 2 - 1
    moved = copy.deepcopy(before).requires_grad_(False)
    turn, shift = torch.eye(24) + 0.1 * torch.randn(24, 24), torch.randn(24)
    moved.quant_conv.weight[:24, :, 0, 0] = turn @ moved.quant_conv.weight[:24, :, 0, 0]
    moved.quant_conv.bias[:24] = turn @ moved.quant_conv.bias[:24] + shift
    with torch.no_grad():
        wanted, latents = before.encode(images).latent_dist.mean, moved.encode(images).latent_dist.mean
        pictures = moved.decode(latents).sample
        assert not torch.allclose(latents, wanted, atol=0.1)
        align_latents(moved, before, images)
        after = moved.encode(images).latent_dist
        assert torch.allclose(after.mean, wanted, atol=1e-3)
        assert torch.allclose(moved.decode(after.mean).sample, pictures, atol=1e-3)
        assert torch.allclose(after.std, torch.tensor(0.05))


@pytest.mark.slow
def test_captions_name_the_look_that_the_latents_show(root, tmp_path):
    vae, data = encoded(LookedLatents, root, tmp_path, variants=1, people=1)
    random.seed(0)
    assert {scene.look for _, scene in data.scenes} == {None, *LOOKS}
    assert {data.table.sets[row].item() for row, _ in data.scenes} == {*STYLE_PHRASES, *GLYPH_PHRASES, *PORTRAITS}
    for index in range(0, len(data.scenes), 23):
        row, scene = data.scenes[index]
        caption = data.caption(row, scene)
        named = [look for look in LOOKS if look in caption.replace("fine mosaic", "fine")]
        assert scene.look is None or scene.look in caption
        assert scene.look is not None or not named, caption
        if scene.look is None or scene.moved or scene.look == "grainy":
            continue
        pixels = torch.from_numpy(draw(data.table.pixels[row], scene).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            want = vae.encode(LOOKS[scene.look](pixels) * 2 - 1).latent_dist.mean[0]
        assert torch.allclose(data.latents[index], want, atol=1e-3)


def test_people_are_drawn_as_their_words_say():
    """Red hair is what the picture shows most of that "black" does not."""
    pytest.importorskip("dicebear")
    seen = set()
    for number in range(20):
        picture, words = draw_person("adventurer", random.Random(number), 64)
        assert picture.shape == (64, 64, 4)
        colour = next(name for name in HAIR if f" {name} hair" in words)
        rgb = np.array([int(HAIR[colour][i : i + 2], 16) for i in (1, 3, 5)])
        solid = picture[picture[..., 3] == 255][:, :3].astype(int)
        assert (abs(solid - rgb).max(1) < 12).mean() > 0.03, words
        seen.add("glasses" in words)
    assert seen == {True, False}


def test_the_moving_average_forgets_where_it_started():
    """After 200 steps at a value of 1, next to nothing is left of the 100 it started from."""
    average, current = [torch.tensor([100.0])], [torch.tensor([1.0])]
    for count in range(1, 200):
        moving_average(0.998)(average, current, torch.tensor(count))
    assert average[0].item() == pytest.approx(1, abs=0.01)


def test_an_outline_is_dark_and_leaves_the_icon():
    torch.manual_seed(0)
    icon = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    icon[:, :, 6:10, 6:10] = 255
    drawn = flattened(random_outline(icon, 1.0), torch.ones(()))
    assert drawn[0, :, 5, 7].max() < 0.4
    assert drawn[0, :, 7, 7].min() == 1
    assert drawn[0, :, 1, 1].min() == 1
    assert torch.equal(random_outline(icon, 0.0), icon)


def test_names_read_as_people_say_them():
    assert name_of("cat-face") == "cat"
    assert name_of("green-apple") == "green apple"
    names = ("cat", "owl", "unicorn", "ufo", "hourglass", "grapes")
    assert [with_article(name) for name in names] == ["a cat", "an owl", "a unicorn", "a ufo", "an hourglass", "grapes"]
    assert with_article("umbrella", "red") == "a red umbrella"
    words = {made_up_word() for _ in range(100)}
    assert len(words) > 90
    assert not words & set(" ".join(load_concepts().values()).split())
