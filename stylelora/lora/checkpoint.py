"""What a checkpoint holds of a model: its adapter alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from stylelora.records import InputError


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy the tensors of the adapters: the trained ones, and the starts of PiSSA."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    trained |= {name for name, _ in model.named_buffers() if name.endswith((".initial_A", ".initial_B"))}
    return {name: value.clone() for name, value in model.state_dict().items() if name in trained}


def check_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint of other adapters, which would be loaded in part.

    Raises:
        InputError: its layers or ranks are not those of the model.
    """
    own = adapter_state(model)
    if different := own.keys() ^ state.keys():
        raise InputError(
            f"the checkpoint holds an adapter for other layers ({len(different)} differ, such as {min(different)}); "
            "resume with the base, target_modules, lora and text_encoder that it was trained with"
        )
    if other := [name for name, value in own.items() if value.shape != state[name].shape]:
        shapes = f"{tuple(state[other[0]].shape)}, not {tuple(own[other[0]].shape)}"
        raise InputError(
            f"the checkpoint holds an adapter of another rank ({other[0]} is {shapes}); resume with the rank and "
            "rank_pattern that it was trained with"
        )
