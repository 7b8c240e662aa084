"""Precision of weights, and of arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stylelora.records import InputError

if TYPE_CHECKING:
    from torch import nn

#: Type of a frozen base's weights.
BaseDType = Literal["float32", "bfloat16"]
MIXED = ("32-true", "bf16-mixed", "16-mixed")
SHORT = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "None": "32-true"}  # Lightning's other names


def same_precision_everywhere() -> None:
    """Allow TF32 in convolutions only where matrix multiplications use it.

    PyTorch allows TF32 (10-bit mantissa) in cuDNN convolutions by default, but not in matrix multiplications. Here
    `torch.set_float32_matmul_precision` decides for both: with its default, "highest", float32 means float32.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = torch.get_float32_matmul_precision() != "highest"


def check_precision(config: Any) -> None:
    """Refuse a precision of the trainer that cannot do what it says.

    Args:
        config: parsed command line; a model with a `base_dtype` trains an adapter, in float32.

    Raises:
        InputError: if so; the message says what to give instead.
    """
    given, dtype = config.trainer.precision, config.model.get("init_args", {}).get("base_dtype")
    name = SHORT.get(str(given), str(given))
    if dtype and name in ("bf16-true", "16-true"):
        raise InputError(
            f"trainer.precision {given} would round the adapter, too, and lose its small steps; for a frozen base in "
            "half precision give --model.base_dtype bfloat16 and --trainer.precision bf16-mixed"
        )
    if dtype and name not in MIXED:
        raise InputError(f"trainer.precision {given} does not train a LoRA here; give {', '.join(MIXED)}")
    if name == "16-mixed" and _is_cpu(config.trainer.accelerator):
        raise InputError("trainer.precision 16-mixed needs a GPU; on a CPU give bf16-mixed or 32-true")
    if name == "16-mixed" and dtype == "bfloat16":
        raise InputError("trainer.precision 16-mixed contradicts model.base_dtype bfloat16; give bf16-mixed")


def _is_cpu(accelerator: object) -> bool:
    import torch

    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def cast_frozen(module: nn.Module, dtype: BaseDType) -> None:
    """Cast the weights that are not trained, in place; an adapter among them stays as it is.

    Args:
        module: network with float32 weights.
        dtype: new type of its frozen weights; bfloat16 halves their memory.

    Raises:
        InputError: for another type.
    """
    import torch

    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"base_dtype is {dtype}; give float32 or bfloat16")
    for parameter in module.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))  # a cast to its own type is no copy
