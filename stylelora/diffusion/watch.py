"""A training stops before its first step that is not a number (NaN or infinite), and says whose fault that is.

The losses and gradients of a step are looked at once, before the optimiser uses them, with one question to the device.
So weights stay what they were. Only then, where something is wrong, everything is computed again to find its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stylelora.base.conditioning import Conditioning
from stylelora.base.numbers import bad_places, bad_rows, bad_weights
from stylelora.diffusion.loss import BANK_TIMESTEPS, bank_losses
from stylelora.diffusion.objective import Objective
from stylelora.distributed import gather_objects
from stylelora.lora.fold import folded
from stylelora.lora.inject import adapter_disabled, adapter_parameters
from stylelora.records import InputError, some
from stylelora.texts import quoted

TRAINING = "so the training is at fault: lower the learning rate"
LEAST_SCALE = 2.0**-10  # a GradScaler begins at 2^16, so that 26 steps have been skipped
SAVED = "what was saved before is as it was"


@dataclass(frozen=True)
class Seen:
    """What losses were computed of.

    Attributes:
        files: files of the B pictures.
        captions: their captions.
        timesteps: gives their timesteps.
        latents: float (B, C, H, W).
        given: conditioning of B pictures.
        losses: float (B, ...).
        again: computes the losses again, of a conditioning.
    """

    files: Sequence[str]
    captions: Sequence[str]
    timesteps: Callable[[], Sequence[int]]
    latents: Tensor
    given: Conditioning
    losses: Tensor
    again: Callable[[Conditioning], Tensor]


class Watch:
    """Computes the losses of a training, and looks at them and their gradients.

    Args:
        model: has `unet`, its `scheduler` and perhaps a `text_encoder`: the base, frozen, and the adapter, trained.
        base: name of the base, for messages.
        compiled: whether the UNet is compiled for training steps.
    """

    def __init__(self, model: nn.Module, base: str, compiled: bool = False) -> None:
        self.model, self.base, self.trained = model, base, adapter_parameters(model)
        self.unet = torch.compile(model.unet) if compiled else model.unet  # for training steps
        self.seen: list[Seen] = []  # since the last step

    def losses(
        self, objective: Objective, batch: dict, latents: Tensor, keys: Sequence[tuple], given: Conditioning
    ) -> Tensor:
        """Return the losses of a training batch, float (B,), and remember what they are of until its step.

        Args:
            objective: what is minimised.
            batch: of a data module; `file` and `caption` of each picture, and perhaps `mask`.
            latents: float (B, C, H, W).
            keys: key of each picture's draws.
            given: conditioning of B pictures.

        Raises:
            InputError: the UNet cannot be compiled.
        """
        scheduler = self.model.scheduler

        def compute(given: Conditioning, unet: nn.Module = self.model.unet) -> Tensor:
            return objective.losses(unet, scheduler, latents, keys, given, batch.get("mask"))

        timesteps = partial(objective.draw_timesteps, keys, scheduler.config.num_train_timesteps)
        try:
            losses = compute(given, self.unet)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            why = " ".join(str(error.inner_exception).split())[:200]
            raise InputError(
                f"the UNet cannot be compiled here ({why}); torch.compile needs a C++ compiler, and Triton on a GPU; "
                "leave model.compile out"
            ) from error
        self.seen.append(_seen(batch, timesteps, latents, given, losses, compute))
        return losses

    def bank_losses(
        self, step: int, batch: dict, latents: Tensor, given: Conditioning, places: Sequence[int]
    ) -> Tensor:
        """Return the losses of held-out pictures, as of `bank_losses`.

        Args:
            step: number of steps made.
            batch: of a data module; `sha256` of each picture, and as of `losses`.
            latents: float (B, C, H, W).
            given: conditioning of B pictures.
            places: which of BANK_TIMESTEPS.

        Raises:
            InputError: one is not a number.
        """
        names, more = batch["sha256"], {"mask": batch.get("mask"), "places": places}
        compute = partial(bank_losses, self.model.unet, self.model.scheduler, latents, names, **more)
        with folded(self.model.unet):
            losses = compute(given)
        if bad_rows(losses):
            one = _seen(batch, lambda: [BANK_TIMESTEPS[place] for place in places], latents, given, losses, compute)
            raise InputError(
                f"the loss of held-out pictures is not a number after step {step} ({_named([one])}): "
                f"{self._fault(one)}; {SAVED}"
            )
        return losses

    def check_step(self, step: int, precision: Any) -> None:
        """Look at the losses since the last step, and at their gradients.

        Args:
            step: number of the step that follows, from 1.
            precision: Lightning's plugin for it. A `scaler` there looks at the gradients itself, and skips steps.

        Raises:
            InputError: one is not a number; on all processes, if their gradients are common.
        """
        seen, self.seen = self.seen, []
        parameters = self.trained if getattr(precision, "scaler", None) is None else []
        gradients = [one.grad for one in parameters if one.grad is not None]
        numbers = [one.losses.float().sum() for one in seen]
        numbers += [torch.nn.utils.get_total_norm(gradients)] if gradients else []
        if not numbers or bool(torch.stack(numbers).isfinite().all()):  # the one question to the device
            return
        said = None
        if wrong := [one for one in seen if bad_rows(one.losses)]:
            with precision.forward_context():
                said = f"{_named(wrong)}): {self._fault(wrong[0])}"
        if gradients and not bool(numbers[-1].isfinite()):  # the same on all processes
            said = next(filter(None, gather_objects(said)), None)
        said = said or f"{_named(seen)}): {self._weights() or f'losses are numbers and gradients are not, {TRAINING}'}"
        raise InputError(f"training stopped before step {step} ({said}; {SAVED}")

    def check_weights(self, step: int, precision: Any = None) -> None:
        """Look at the adapter's weights, and at a GradScaler, which halves its scale for each step that it skips.

        Args:
            step: number of steps made.
            precision: Lightning's plugin for it.

        Raises:
            InputError: a weight is not a number, or the scaler skips all steps.
        """
        scaler = getattr(precision, "scaler", None)
        if scaler is not None and scaler.get_scale() < LEAST_SCALE:
            raise InputError(
                f"training stopped after step {step}: all steps lately had gradients that are not numbers, {TRAINING}"
            )
        if said := self._weights():
            raise InputError(f"training stopped after step {step}: {said}; {SAVED}")

    def _weights(self) -> str | None:
        if bad := bad_weights(self.model, trained=True):
            return f"the step before made weights of the LoRA that are not numbers ({some(bad)}), {TRAINING}"
        return None

    @torch.no_grad()
    def _fault(self, one: Seen) -> str:
        """Return what is not a number, and whose fault it is."""
        base = f"so the base, {self.base}, is at fault"
        if said := self._weights():
            return said
        if bad := bad_rows(one.latents):
            named = some(one.files[row] for row in bad)
            return f"the latent of {named} is not a number, so it is at fault: replace the picture, or delete the cache"
        if bad := bad_weights(self.model, trained=False):
            return f"weights of the base are not numbers ({some(bad)}), {base}: get it again, or give another"
        if bad := bad_rows(one.given.text):
            named = some(quoted(one.captions[row]) for row in bad)
            whose = f"{base}: give another" if getattr(self.model, "text_encoder", None) is None else TRAINING
            return f"the text embedding of {named} is not a number, {whose}"
        with adapter_disabled(self.model):
            alone = one.again(one.given)
        if bad_rows(alone):
            return f"what the base predicts without the LoRA is not a number, {base}: give another, or a wider type"
        return f"the loss with the LoRA is not a number, and that of the base alone is one, {TRAINING}"


def _seen(
    batch: dict, timesteps: Callable, latents: Tensor, given: Conditioning, losses: Tensor, again: Callable
) -> Seen:
    files, captions = (list(map(str, batch.get(key, batch["row"]))) for key in ("file", "caption"))
    return Seen(files, captions, timesteps, latents, Conditioning(given.text.detach()), losses.detach(), again)


def _named(seen: Sequence[Seen]) -> str:
    files, times = [file for one in seen for file in one.files], [str(int(t)) for one in seen for t in one.timesteps()]
    return f"{some(files)}; timesteps {some(times)}"


def check_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Check that the adapter, its average and the optimiser's state are numbers.

    Raises:
        InputError: if not, so that it is not written.
    """
    parts = {name: checkpoint.get(name) for name in ("state_dict", "average", "optimizer_states")}
    if bad := list(bad_places(parts)):
        raise InputError(
            f"training stopped: the checkpoint of step {checkpoint.get('global_step')} would hold what is not a number "
            f"({some(bad)}), so it is not written, {TRAINING}"
        )
