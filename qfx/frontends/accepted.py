"""Which models can be captured at all: modules with tensors and code to trace."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from qfx.errors import InputError
from qfx.ir.module import GraphCarrier
from qfx.ir.user_names import MARK

# Class, what such a model is, and what to pass instead.
_WRAPPED: tuple[tuple[type[nn.Module], str, str], ...] = (
    (GraphCarrier, "was made by qfx already", "Pass the float model."),
    (nn.DataParallel, "is a wrapper", "Pass its .module."),
    (nn.parallel.DistributedDataParallel, "is a wrapper", "Pass its .module."),
)


def require_float_model(model: object) -> None:
    """Raise unless ``model`` is an ``nn.Module`` that can be traced.

    Raises:
        InputError: What it is instead, and what to pass.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"The model is {type(model).__name__}, not an nn.Module.",
            remedy="Pass a module; wrap a function in the forward of one.",
        )
    for kind, what, remedy in _WRAPPED:
        if isinstance(model, kind):
            raise InputError(f"The model, {type(model).__name__}, {what}.", remedy=remedy)
    if hasattr(model, "_orig_mod"):  # torch.compile's class, whose import takes seconds
        raise InputError("The model was wrapped by torch.compile.", remedy="Pass the module before torch.compile.")
    for path, _ in model.named_modules():
        _require_path(path)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        where = name.rpartition(".")[0]
        _require_path(name)
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise InputError(
                f"The model's {name!r} has no shape yet.", where=where, remedy="Run the float model once on an input."
            )


def _require_path(path: str) -> None:
    """Raise for a name that our graphs could take for one of theirs."""
    for name in path.split("."):
        if MARK in name:
            raise InputError(
                f"There is a module or tensor named {name!r}.",
                where=path,
                why=f"Names with {MARK!r} (U+{ord(MARK):04X}) are those of qfx's graphs.",
                remedy="Give it another name.",
            )
