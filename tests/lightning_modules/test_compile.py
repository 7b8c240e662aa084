"""`model.compile`: training steps run a compiled UNet; everything else is as without it."""

import functools

import pytest
import torch

from lightning_modules import StyleLoRA
from stylelora.records import InputError
from tests.tiny_sd import SMALLEST_UNET, build_tiny_sd, disturb, training_batch

pytestmark = pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered.*")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_tiny_sd(tmp_path_factory.mktemp("smallest"), unet=SMALLEST_UNET)


def built(base, **options):
    module = StyleLoRA(str(base), rank=2, target_modules=["to_q", "to_out.0", "conv1"], **options)
    disturb(module.unet)
    return module


class Compiled(torch.nn.Module):
    """Stands in for what torch.compile returns."""

    calls, error = 0, None

    def __init__(self, unet):
        super().__init__()
        self.of = unet

    def forward(self, *given, **more):
        self.calls += 1
        if self.error:
            raise self.error
        return self.of(*given, **more)


def test_only_training_steps_use_it_and_checkpoints_do_not_have_it(base, monkeypatch):
    plain = built(base)
    monkeypatch.setattr(torch, "compile", Compiled)
    module = built(base, compile=True)
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert len([*module.parameters()]) == len([*plain.parameters()])
    assert torch.equal(module.training_step(training_batch(), 0), plain.training_step(training_batch(), 0))
    assert module.watch.unet.calls == 1
    module.validation_step(training_batch() | {"sha256": ["a", "b"]}, 0)
    assert module.watch.unet.calls == 1


def test_where_it_cannot_be_had_is_said_in_a_sentence(base, monkeypatch):
    monkeypatch.setattr(torch, "compile", Compiled)
    module = built(base, compile=True)
    module.watch.unet.error = torch._dynamo.exc.BackendCompilerFailed(print, RuntimeError("no compiler\nhere"), None)
    with pytest.raises(InputError, match=r"the UNet cannot be compiled here \(.*no compiler here.*\); torch.compile"):
        module.training_step(training_batch(), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("bfloat16", 1e-3)])
def test_it_is_one_graph_with_the_adapter_and_gives_the_same_loss_and_gradients(base, monkeypatch, dtype, rtol):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    found = []
    for options in ({}, {"compile": True}):
        module = built(base, base_dtype=dtype, **options)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            module.training_step(training_batch(), 0)
            loss = module.training_step(training_batch(), 0)
        loss.backward()
        found.append((loss.item(), torch.cat([one.grad.flatten() for one in module.watch.trained])))
    (ours, gradients), (theirs, reference) = found
    assert ours == pytest.approx(theirs, rel=rtol)
    assert (gradients - reference).norm() <= 10 * rtol * reference.norm()
