"""What a model accepts as inputs: checks with the name of the input, casts, and descriptions to make examples from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import InputError
from qfx.memory import require_regular, require_values

_CASTABLE = (torch.float64, torch.float16, torch.bfloat16)


def describe(value: Any) -> Any:
    """A tensor's shape and dtype, enough to make an example like it; anything else as it is."""
    if not isinstance(value, Tensor):
        return ("value", value)
    return ("tensor", tuple(map(_seen, value.shape)), value.dtype)


def _seen(size: Any) -> int:
    """A size; where a compiler has a symbol for it, that of the tensor it was seen with."""
    return int(size.node.hint if isinstance(size, torch.SymInt) else size)


def example(description: Any) -> Any:
    """An example input of the described shape and dtype."""
    if description[0] == "value":
        return description[1]
    return torch.zeros(description[1], dtype=description[2])


def as_float32(value: Any, what: str = "An input") -> Any:
    """A floating-point tensor of another precision as float32; anything else as it is.

    Raises:
        InputError: With ``what`` as its subject: a tensor without the memory that its sizes need, or without a grid.
    """
    if not isinstance(value, Tensor):
        return value
    if not torch.compiler.is_dynamo_compiling():  # whose tensors have no memory
        require_values(value, what)
    return value.to(torch.float32) if value.dtype in _CASTABLE else value


def is_foreign_array(value: object) -> bool:
    """Whether ``value`` is an array of another library (numpy and what follows its protocol), not a tensor."""
    return hasattr(value, "__array_interface__") and not isinstance(value, Tensor)


def require_no_foreign_array(what: str, value: object) -> None:
    """Raise for an array of another library.

    Raises:
        InputError: With ``what`` as its subject, such as ``"Input 'x'"``.
    """
    if is_foreign_array(value):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise InputError(
            f"{what} is a {kind}, not a tensor.",
            why="Models compute with torch tensors only.",
            remedy="Convert it: torch.from_numpy(array), or torch.as_tensor(array, dtype=torch.float32).",
        )


def checked(node: fx.Node, value: Any) -> Any:
    """``value`` as a program takes it for the placeholder ``node``.

    Raises:
        InputError: It has the wrong type, device, rank or dtype; the input is named.
    """
    shape, wanted = node.meta.get("shape"), node.meta.get("dtype", torch.float32)
    arrives = node.meta.get("arrives_as")
    what = f"Input {str(node.target)!r}"
    require_no_foreign_array(what, value)
    if isinstance(value, Tensor):
        require_regular(value, what)
    if shape is None or (wanted is not torch.float32 and arrives is None):
        return value
    if not isinstance(value, Tensor):
        raise InputError(f"{what} is {type(value).__name__}, not a tensor.", remedy="Pass a float32 CPU tensor.")
    if value.device.type != "cpu":
        raise InputError(f"{what} is on {value.device}.", why="qfx runs on the CPU.", remedy="Pass it .cpu().")
    if value.dim() != len(shape):
        raise InputError(
            f"{what} has rank {value.dim()} (shape {tuple(value.shape)}), but the model was prepared with rank "
            f"{len(shape)} (shape {tuple(shape)}).",
            remedy="Pass a tensor of that rank; a single sample needs a batch dimension.",
        )
    if arrives is not None:
        return _checked_codes(what, value, arrives.dtype.storage)
    if value.dtype in _CASTABLE:
        value = as_float32(value, what)
    if value.dtype is not torch.float32:
        raise InputError(f"{what} has dtype {value.dtype}.", remedy="Pass floating point: the model quantizes itself.")
    return value


def _checked_codes(what: str, value: Tensor, storage: torch.dtype) -> Tensor:
    if value.dtype is not storage:
        raise InputError(
            f"{what} arrives quantized: it must be {storage}, not {value.dtype}.",
            why="The qconfig_dict names it in input_quantized_idxs.",
            remedy=f"Pass its integers as {storage}, or take its index out of input_quantized_idxs to pass floats.",
        )
    return value if storage is torch.uint8 else (value.to(torch.int16) + 128).to(torch.uint8)
