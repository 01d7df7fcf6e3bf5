"""Nodes, initializers and names of an ONNX graph that is being written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
import torch
from torch import Tensor

_SHARED = 64
"""Bytes up to which equal constants are one initializer."""

TYPES: dict[torch.dtype, int] = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
    torch.int64: onnx.TensorProto.INT64,
    torch.int32: onnx.TensorProto.INT32,
    torch.int16: onnx.TensorProto.INT16,
    torch.int8: onnx.TensorProto.INT8,
    torch.uint8: onnx.TensorProto.UINT8,
    torch.bool: onnx.TensorProto.BOOL,
}
"""Element types of ONNX by torch's."""


def as_proto(tensor: Tensor, name: str) -> onnx.TensorProto:
    """A tensor as ONNX stores it."""
    plain = tensor.detach().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return onnx.TensorProto(name=name, data_type=TYPES[plain.dtype], dims=list(plain.shape), raw_data=data)


class Builder:
    """What has been written so far. Values are their names."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken = set(reserved)
        self._node_names: set[str] = set()
        self._constants: dict[Any, str] = {}

    def name(self, wanted: str) -> str:
        """``wanted`` or, where a value has that name, one that resembles it."""
        return _unique(wanted, self._taken)

    def initializer(self, wanted: str, tensor: Tensor | onnx.TensorProto) -> str:
        """A tensor of the model."""
        name = self.name(wanted)
        proto = as_proto(tensor, name) if isinstance(tensor, Tensor) else tensor
        proto.name = name
        self.initializers.append(proto)
        return name

    def constant(self, value: Any, dtype: torch.dtype | None = None, name: str = "constant") -> str:
        """A constant of the graph; small ones that are equal are one."""
        tensor = value.to(dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype)
        proto = as_proto(tensor, "")
        key = (proto.data_type, tuple(proto.dims), proto.raw_data)
        if len(proto.raw_data) > _SHARED:
            return self.initializer(name, proto)
        if key not in self._constants:
            self._constants[key] = self.initializer(name, proto)
        return self._constants[key]

    def add(self, kind: str, inputs: Iterable[str], outputs: Iterable[str], label: str, **attributes: Any) -> None:
        """A node. Empty names are operands that are left out; attributes of None are left out, too."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        kept = {key: value for key, value in attributes.items() if value is not None}
        name = _unique(label, self._node_names)
        self.nodes.append(onnx.helper.make_node(kind, given, list(outputs), name=name, **kept))

    def rename(self, old: str, new: str) -> None:
        """Give the value that a node computes another name, which no other value has."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def computes(self, name: str) -> bool:
        """Whether a node's result has this name."""
        return any(name in node.output for node in self.nodes)


def _unique(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 1
    while name in taken:
        name, count = f"{wanted}_{count}", count + 1
    taken.add(name)
    return name
