"""What saves memory: activations computed again, and a base in bfloat16. The adapter is the same, or nearly."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lightning_modules import StyleLoRA
from stylelora.base.load import load_unet
from stylelora.runs.folder import adapter_file
from tests.runs import fit_words, one_sentence, run_cli
from tests.tiny_sd import disturb, training_batch


def step(base, mixed=False, **options):
    """One training step: the module, its loss, and the bytes that are kept for the backward pass beside weights."""
    module = StyleLoRA(str(base), rank=4, **options)
    disturb(module.unet)  # B is zero at first, and then A has no gradient
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage()._cdata not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        loss = module.training_step(training_batch(), 0)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    loss.backward()
    return module, loss.item(), size


def trained(module):
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def gradients(module):
    return torch.cat([parameter.grad.flatten() for parameter in trained(module).values()])


@pytest.fixture(scope="module")
def plain(tiny_sd):
    return step(tiny_sd)


@pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered.*")
class TestSteps:
    def test_checkpointing_keeps_less_and_gives_the_same_gradients(self, plain, tiny_sd):
        module, loss, size = step(tiny_sd, gradient_checkpointing=True)
        assert loss == plain[1]
        assert size < plain[2] / 4
        assert all(parameter.grad is not None for parameter in trained(module).values())
        first = module.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_v
        assert first.lora_A.style.weight.grad.abs().max() > 0, "of the earliest layers, too"
        torch.testing.assert_close(gradients(module), gradients(plain[0]), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("mixed", [False, True])
    def test_a_base_in_bfloat16_trains_an_adapter_in_float32(self, plain, tiny_sd, mixed):
        module, loss, size = step(tiny_sd, mixed, base_dtype="bfloat16")
        own = trained(module)
        assert (
            {value.dtype for value in own.values()} == {value.grad.dtype for value in own.values()} == {torch.float32}
        )
        frozen = [value for name, value in module.named_parameters() if name not in own]
        assert {value.dtype for value in frozen} == {torch.bfloat16}
        assert {layer.down.dtype for layer in module.adapter_layers().values()} == {torch.float32}
        assert loss != plain[1], "else nothing was rounded"
        assert loss == pytest.approx(plain[1], rel=0.02)
        one, other = gradients(module), gradients(plain[0])
        assert torch.cosine_similarity(one, other, dim=0) > 0.98
        assert size < plain[2] * (0.7 if mixed else 0.9)

    def test_mixed_precision_needs_a_base_in_bfloat16_to_save_memory(self, plain, tiny_sd):
        """Autocast keeps a copy in bfloat16 of each frozen weight in float32."""
        both = [step(tiny_sd, True, base_dtype=dtype)[2] for dtype in ("float32", "bfloat16")]
        frozen = sum(parameter.numel() for parameter in load_unet(tiny_sd).parameters())
        assert both[0] - both[1] > frozen  # two bytes each, of most


@pytest.mark.slow
def test_a_whole_run_in_bfloat16(tiny_sd, tiny_clip, pictures, tmp_path):
    folder = tmp_path / "runs" / "small"
    words = ["--trainer.precision=bf16-mixed", "--model.base_dtype=bfloat16", "--model.gradient_checkpointing=true"]
    assert run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder, *words))[0] == 0
    assert {str(value.dtype) for value in load_file(adapter_file(folder)).values()} == {"torch.float32"}
    assert json.loads((folder / "result.json").read_text())["status"] == "success"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.precision=bf16-true"], "--model.base_dtype bfloat16"),
        (["--trainer.precision=16-true"], "--model.base_dtype bfloat16"),
        (["--trainer.precision=64-true"], "32-true, bf16-mixed, 16-mixed"),
        (["--trainer.precision=16-mixed"], "needs a GPU"),
        (["--trainer.precision=16-mixed", "--trainer.accelerator=gpu", "--model.base_dtype=bfloat16"], "contradicts"),
        (["--model.base_dtype=float16"], "float32 or bfloat16"),
    ],
)
def test_a_precision_that_cannot_be_had_is_one_sentence(tiny_sd, tiny_clip, pictures, tmp_path, words, said):
    status, text = run_cli(fit_words(tiny_sd, tiny_clip, pictures, tmp_path / "runs" / "x", *words))
    one_sentence(status, text)
    assert said in text
    assert list(tmp_path.iterdir()) == []
