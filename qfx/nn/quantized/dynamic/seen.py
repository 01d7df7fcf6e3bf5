"""What a dynamic module computes as an operator of torch, which tracers, compilers and transforms see."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from qfx.lowering.recorded_state import RecordedState

Forward = TypeVar("Forward", bound=Callable[..., Any])
Sizes = tuple[Any, ...]


class Kernel:
    """A function of tensors that runs a program of a module, by its weights as they are when it runs.

    Args:
        compute: Takes plain tensors, and gives fresh float32 ones.
        shapes: Of their results, by the tensors; sizes may be symbols.
    """

    def __init__(self, compute: Callable[..., Sequence[Tensor]], shapes: Callable[..., Sequence[Sizes]]) -> None:
        self._compute, self._shapes = compute, shapes

    def compute(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """As :class:`qfx.lowering.torch_operator.Program`."""
        return self._compute(*inputs)

    def recheck(self, inputs: Sequence[Tensor]) -> None:
        """As :class:`qfx.lowering.torch_operator.Program`: each call checks all."""

    def without_values(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """As :class:`qfx.lowering.torch_operator.Program`."""
        return [inputs[0].new_empty(shape, dtype=torch.float32) for shape in self._shapes(*inputs)]


def as_it_is(forward: Forward) -> Forward:
    """Decorator of a module's ``forward``: ``torch.compile`` takes a call as it is, not line by line."""

    @functools.wraps(forward)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_dynamo_compiling():
            return forward(self, *args, **kwargs)
        from qfx.lowering.opaque import call_opaque

        if torch.compiler.is_exporting():  # dynamo itself must tell it: it can't follow the making of our errors
            torch._dynamo.graph_break("torch.export.export can't take a quantized layer with strict=True")
        return call_opaque(self._recorded_state, args, kwargs)

    return called  # type: ignore[return-value]


def state_of(module: Any) -> RecordedState:
    """What compilers keep of a call of ``module``."""
    return RecordedState(module._call_as_it_is)
