"""Real pictures to judge by, of the sizes that training brings them to."""

from types import SimpleNamespace

import torch

from datamodules import EvaluationSet, StyleDataModule
from stylelora.base.load import load_tokenizer


def evaluation_set(shapes, tiny_sd, **options):
    style = StyleDataModule(root=shapes, resolution=128, trigger="s", batch_size=2, held_out=0.4, **options)
    data = EvaluationSet([style], prompts=["a cat"], batch_size=4)
    module = SimpleNamespace(hparams=SimpleNamespace(base=str(tiny_sd)), conditions=[], adapters=[])
    module.painter = SimpleNamespace(tokenizer=load_tokenizer(tiny_sd))
    data.trainer = SimpleNamespace(lightning_module=module, world_size=1, global_rank=0)
    data.prepare_data()
    data.setup("test")
    return data, style


def test_pictures_of_buckets_keep_their_shapes_and_a_batch_has_one(shapes, tiny_sd):
    data, style = evaluation_set(shapes, tiny_sd, buckets=True)
    images = data.images(style.style_name, "held_out")
    assert len({image.shape for image in images}) > 1
    assert [(image.shape[2], image.shape[1]) for image in images] == style.dataset.sizes["held_out"]
    _, loader = data.test_dataloader()
    batches = list(loader)
    assert sorted(i for batch in batches for i in batch["index"]) == list(range(len(images)))
    for batch in batches:
        assert torch.equal(batch["image"], torch.stack([images[i] for i in batch["index"]]))
        assert batch["sha256"] == [style.held_out[i].sha256 for i in batch["index"]]


def test_without_buckets_all_are_squares(shapes, tiny_sd):
    data, style = evaluation_set(shapes, tiny_sd)
    for side in ("train", "held_out"):
        images = data.images(style.style_name, side)
        assert len(images) == len(getattr(style, side)) > 0
        assert {image.shape for image in images} == {(3, 128, 128)}
        assert images[0].dtype == torch.uint8
