"""What a trace by ``torch.jit.trace`` fixes: numbers that Python code makes of tensors while it runs."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from qfx.frontends.source import is_internal

_LENGTHS = {"__len__", "__iter__", "unbind"}
"""What makes lists of as many items as a size says. So do ``split``, and ``chunk`` where there are too few."""
_NUMBERS = {"__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__", "__format__", "__array__",
            "item", "tolist", "numpy", "is_nonzero"}  # fmt: skip
_OF_SHAPES = {"aten::size", "aten::numel", "aten::dim", "prim::shape", "aten::stride", "aten::sym_size"}


class ValueFixedError(Exception):
    """A number that depends on the values of the inputs, which a trace would hold for all inputs."""


class Conversions(TorchFunctionMode):
    """While active in a trace, notes the numbers that the trace fixes.

    Attributes:
        sizes: Whether one of them depends on the sizes of the inputs.

    Raises:
        ValueFixedError: One depends on their values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LENGTHS or (name == "split" and isinstance(_second(args, kwargs), int)):
            self.sizes |= not _in_torch()
        elif name in _NUMBERS and args and isinstance(args[0], Tensor):
            self._note(name, args[0])
        result = func(*args, **(kwargs or {}))
        if name == "chunk" and len(result) != _second(args, kwargs):
            self.sizes |= not _in_torch()
        return result

    def _note(self, name: str, tensor: Tensor) -> None:
        sources = _sources(tensor)
        if "values" in sources:
            raise ValueFixedError(f"a Python number made from a tensor's value, {name.strip('_')}()")
        self.sizes |= "sizes" in sources and not _in_torch()


def _second(args: Any, kwargs: Any) -> Any:
    return args[1] if len(args) > 1 else next(iter((kwargs or {}).values()), None)


def _sources(tensor: Tensor) -> set[str]:
    """What a traced number comes from: ``"sizes"`` or ``"values"`` of inputs, nothing for a constant."""
    try:
        queue: list[Any] = [torch._C._get_value_trace(tensor)]  # type: ignore[attr-defined]
    except RuntimeError:  # no part of the trace
        return set()
    found: set[str] = set()
    seen: set[str] = set()
    while queue:
        value = queue.pop()
        if value.debugName() in seen:
            continue
        seen.add(value.debugName())
        node = value.node()
        if node.kind() in _OF_SHAPES:
            found.add("sizes")
        elif node.kind() == "prim::Param":
            found |= {"values"} if value.type().kind() != "ClassType" else set()
        elif _is_random(node):
            found.add("values")
        else:
            queue.extend(node.inputs())
    return found


def _is_random(node: Any) -> bool:
    name = node.kind().removeprefix("aten::")
    packet = getattr(torch.ops.aten, name, None) if node.kind().startswith("aten::") else None
    tags = [getattr(packet, overload).tags for overload in packet.overloads()] if packet is not None else []
    return any(torch.Tag.nondeterministic_seeded in found for found in tags)


def _in_torch() -> bool:
    """Whether the code that converts is torch's own, whose layers and functions ask for sizes to check them."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, _TENSOR, _OVERRIDES):
        frame = frame.f_back
    return is_internal(frame.f_code.co_filename)


_TENSOR, _OVERRIDES = sys.modules["torch._tensor"].__file__, sys.modules["torch.overrides"].__file__
