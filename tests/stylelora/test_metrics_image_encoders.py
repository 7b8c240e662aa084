"""DINOv2, CSD and the style encoder: tiny random checkpoints in the real layouts against the raw networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from stylelora.metrics.efficientnet import EfficientNetLite0
from stylelora.metrics.encoders import ClipEncoder
from stylelora.metrics.image_encoders import CsdEncoder, DinoEncoder, load_image_encoder
from stylelora.metrics.style import StyleEncoder, style_similarity
from stylelora.records import InputError


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class Csd(nn.Module):
    """Names and arithmetic of CSD's vision tower, on PyTorch's own attention."""

    def __init__(self, width=128, depth=2, patch=8, side=32, out=24):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.backbone.class_embedding = nn.Parameter(torch.zeros(width))
        self.backbone.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.backbone.ln_pre, self.backbone.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.backbone.transformer = nn.Module()
        self.backbone.transformer.resblocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.last_layer_style = nn.Parameter(torch.zeros(width, out))
        self.last_layer_content = nn.Parameter(torch.zeros(width, out))

    def forward(self, pixels):
        tower = self.backbone
        x = tower.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], 1) + tower.positional_embedding
        x = tower.transformer.resblocks(tower.ln_pre(x))
        return F.normalize(tower.ln_post(x[:, 0]) @ self.last_layer_style, dim=1)


def randomised(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # initial weights are so small that all vectors look alike
        nn.init.normal_(parameter.data, std=0.4, generator=generator)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def csd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("csd") / "tiny-csd"
    folder.mkdir()
    model = randomised(Csd())
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"name": "vit_large", "content_proj_head": "default"}')
    return folder, model


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino") / "tiny-dino"
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    with torch.random.fork_rng():
        model = randomised(Dinov2Model(config))
    model.save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)  # fmt: skip
    return folder, model


@pytest.fixture(scope="module")
def style(tmp_path_factory):
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("style") / "tiny-style"
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        model = randomised(
            CLIPVisionModelWithProjection(CLIPVisionConfig(**size, image_size=32, patch_size=8, projection_dim=12))
        )
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def images():
    """Four pictures of 2 x 2 coloured squares: to a random network all noise looks alike."""
    squares = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return squares.repeat_interleave(20, 2).repeat_interleave(20, 3)


def as_pictures(images):
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def clip_pixels(images, side=32):
    """CLIP's preparation of square pictures: Pillow's bicubic, mean and deviation of its training pictures."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    small = [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in as_pictures(images)]
    return torch.stack([torch.from_numpy((np.asarray(one) / 255 - mean) / std).permute(2, 0, 1) for one in small])


def test_csd_equals_its_definition_in_pytorchs_own_attention(csd, images):
    folder, model = csd
    got = CsdEncoder(str(folder)).encode_images(images)
    want = model(clip_pixels(images).float())
    assert got.shape == (4, 24)
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)
    assert (want - want.mean(0)).abs().mean() > 0.01  # else anything would pass


def test_dino_is_the_normalised_class_token(dino, images):
    from transformers import BitImageProcessorPil

    folder, model = dino
    pixels = BitImageProcessorPil.from_pretrained(folder)(as_pictures(images), return_tensors="pt").pixel_values
    assert pixels.shape == (4, 3, 28, 28)
    blocks = model.encoder(model.embeddings(pixels)).last_hidden_state
    want = F.normalize(model.layernorm(blocks)[:, 0], dim=1)
    torch.testing.assert_close(DinoEncoder(str(folder)).encode_images(images), want, atol=1e-5, rtol=0)
    assert (want - want.mean(0)).abs().mean() > 0.01  # else anything would pass


def test_style_encoder_equals_the_models_own_forward(style, images):
    folder, model = style
    want = F.normalize(model(clip_pixels(images).float()).image_embeds, dim=1)
    torch.testing.assert_close(StyleEncoder(str(folder)).encode_images(images), want, atol=2e-5, rtol=0)
    assert StyleEncoder().encode_images(images).shape == (4, 64)
    assert StyleEncoder().name == StyleEncoder("mini").name == "mini-style"


@pytest.fixture(params=["csd", "dino", "style"])
def kind(request):
    return {"csd": CsdEncoder, "dino": DinoEncoder, "style": StyleEncoder}[request.param], *request.getfixturevalue(
        request.param
    )


def test_what_every_encoder_promises(kind, images, monkeypatch):
    make, folder, _ = kind
    torch.manual_seed(7)
    before = torch.get_rng_state()
    encoder = make(str(folder))
    want = encoder.encode_images(images)
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.name == folder.name
    assert want.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training
    torch.testing.assert_close(want.norm(dim=1), torch.ones(4))
    assert torch.equal(encoder.encode_images(as_pictures(images)), want)
    assert encoder.encode_images([]).shape == (0, want.shape[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode_images(images), want)
    monkeypatch.setattr("stylelora.metrics.encoders.CHUNK", 3)
    torch.testing.assert_close(encoder.encode_images(images), want, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="uint8"):
        encoder.encode_images(images / 255)


def test_a_network_with_gaps_is_refused(kind, tmp_path):
    """transformers fills gaps with random layers in silence."""
    make, folder, _ = kind
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    for lost in (next(name for name in weights if "1." in name), next(iter(weights))):
        kept = {name: value for name, value in weights.items() if name != lost}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        torch.manual_seed(7)
        before = torch.get_rng_state()
        with pytest.raises(InputError, match=r"lacks 1 of its weights|does not hold a whole CSD"):
            make(str(tmp_path))
        assert torch.equal(torch.get_rng_state(), before)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match="cannot be loaded"):
        make(str(tmp_path))


@pytest.mark.parametrize("missing", ["no-such-owner/no-such-model", "/no/such/folder", "not a name"])
def test_a_network_that_cannot_be_had_says_what_to_do(kind, missing, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be loaded: give .*folder") as caught:
        kind[0](missing)
    assert missing in str(caught.value)


def test_csd_refuses_weights_it_would_not_use(csd, tmp_path):
    weights = load_file(csd[0] / "model.safetensors")
    save_file({**weights, "backbone.proj": torch.zeros(128, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="whole CSD"):
        CsdEncoder(str(tmp_path))
    del weights["last_layer_content"]  # not used
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "model.safetensors")
    assert all(parameter.dtype == torch.float32 for parameter in CsdEncoder(str(tmp_path)).model.parameters())


def test_dino_refuses_another_network(tiny_clip):
    with pytest.raises(InputError, match="is a clip; give a DINOv2"):
        DinoEncoder(str(tiny_clip))


def test_csds_layout_is_that_of_the_published_one():
    """297 tensors: 2 projections, 24 blocks of 12, 7 others; ViT-L/14 at 224 px."""
    with torch.device("meta"):
        model = Csd(width=1024, depth=24, patch=14, side=224, out=768)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert len(shapes) == 297
    assert shapes["last_layer_style"] == (1024, 768)
    assert shapes["backbone.positional_embedding"] == (257, 1024)
    assert shapes["backbone.transformer.resblocks.23.attn.in_proj_weight"] == (3072, 1024)


def test_style_similarity_is_to_the_normalised_mean_of_unit_vectors():
    generator = torch.Generator().manual_seed(0)
    vectors, references = torch.randn(5, 8, generator=generator), torch.randn(6, 8, generator=generator)
    centre = F.normalize(F.normalize(references, dim=1).mean(0), dim=0)
    want = F.normalize(vectors, dim=1) @ centre
    torch.testing.assert_close(style_similarity(vectors, references), want)
    lengths = torch.arange(1.0, 7)[:, None]  # a long vector must not weigh more
    torch.testing.assert_close(style_similarity(vectors, lengths * references), want)


def test_efficientnet_takes_pil_images_of_any_sizes(images):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    encoder = EfficientNetLite0(64)
    want = encoder.encode_images(images)
    assert torch.equal(torch.get_rng_state(), before)
    pictures = as_pictures(images)
    torch.testing.assert_close(encoder.encode_images(pictures), want, atol=1e-4, rtol=0)
    mixed = encoder.encode_images([pictures[0], pictures[1].resize((90, 30))])
    torch.testing.assert_close(mixed[0], want[0], atol=1e-4, rtol=0)
    assert encoder.encode_images([]).shape == (0, 1280)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode_images(images), want)
    with pytest.raises(InputError, match="uint8"):
        encoder.encode_images(images / 255)


def test_a_config_names_every_encoder(csd, dino, style, tiny_clip):
    kinds = {"mini": ClipEncoder, "mini-style": StyleEncoder, "efficientnet-lite0": EfficientNetLite0}
    for name, kind in kinds.items():
        encoder = load_image_encoder(name)
        assert type(encoder) is kind
        assert encoder.name == name
    folders = {csd[0]: CsdEncoder, dino[0]: DinoEncoder, style[0]: StyleEncoder, tiny_clip: ClipEncoder}
    for folder, kind in folders.items():
        encoder = load_image_encoder(str(folder), "cpu")
        assert type(encoder) is kind
        assert encoder.name == folder.name


@pytest.mark.parametrize("config", [None, '{"model_type": "custom"}', '{"model_type": "csd_clip"}'])
def test_csd_is_known_whatever_its_config_says(csd, tmp_path, config):
    """Its repositories hold a config of the authors' class, a word unknown to transformers, or none."""
    (tmp_path / "model.safetensors").write_bytes((csd[0] / "model.safetensors").read_bytes())
    if config:
        (tmp_path / "config.json").write_text(config)
    assert type(load_image_encoder(str(tmp_path))) is CsdEncoder


def test_a_name_that_is_no_encoder_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for missing in ("no-such-owner/no-such-model", "/no/such/folder", "mini_style"):
        with pytest.raises(InputError, match=r"cannot be loaded: give 'mini'.* hub id") as caught:
            load_image_encoder(missing)
        assert missing in str(caught.value)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(InputError, match=r"is a siglip: give a CLIP, .*DINOv2 or CSD"):
        load_image_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "sig')
    with pytest.raises(InputError, match="cannot be loaded: give 'mini'"):
        load_image_encoder(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"give a folder with its model\.safetensors"):
        load_image_encoder(str(tmp_path))
