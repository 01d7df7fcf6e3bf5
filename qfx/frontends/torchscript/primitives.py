"""TorchScript's own operators: constants, containers, attributes, conversions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from qfx.frontends.torchscript.aten import number_of
from qfx.frontends.torchscript.functions import FunctionValue
from qfx.frontends.torchscript.hierarchy import constant_path
from qfx.frontends.torchscript.obstacle import REWRITE

if TYPE_CHECKING:
    from qfx.frontends.torchscript.translate import Translator

Rule = Callable[["Translator", Any, list[Any]], Any]


class Uninitialized:
    """The value of a variable on a way through the code on which it has none."""


def _constant(t: Translator, node: Any, operands: list[Any]) -> Any:
    output = node.output()
    if output.type().kind() == "FunctionType":
        return FunctionValue(str(output.type()))
    value = output.toIValue()
    if not isinstance(value, Tensor):
        return value
    path = constant_path(output)
    if path is not None:
        return t.wrap(value, path)
    return value.item() if value.dim() == 0 and not value.is_complex() else value.clone()


def _attribute(t: Translator, node: Any, operands: list[Any]) -> Any:
    return t.attribute(operands[0], node.s("name"))


def _unpack(t: Translator, node: Any, operands: list[Any]) -> Any:
    count = node.outputsSize()
    value = operands[0]
    if isinstance(value, fx.Node):
        number = t.is_number(value)
        items = [t.emit(operator.getitem, (value, index), number=number) for index in range(count)]
    else:
        items = list(value)
    if len(items) != count:
        raise t.obstacle(f"unpacking {len(items)} values into {count}", REWRITE)
    return items if count != 1 else items[0]


def _dict(t: Translator, node: Any, operands: list[Any]) -> dict[Any, Any]:
    return dict(zip(operands[::2], operands[1::2], strict=True))


def _item(t: Translator, node: Any, operands: list[Any]) -> Any:
    container, index = operands
    return t.emit(operator.getitem, (container, index)) if isinstance(container, fx.Node) else container[index]


def _tuple_slice(t: Translator, node: Any, operands: list[Any]) -> Any:
    return operands[0][node.i("beg") : node.i("end")]


def _first(t: Translator, node: Any, operands: list[Any]) -> Any:
    return operands[0]


def _number(t: Translator, node: Any, operands: list[Any]) -> Any:
    return number_of(t, operands[0])


def _raise(t: Translator, node: Any, operands: list[Any]) -> Any:
    message = f": {operands[0]}" if operands and isinstance(operands[0], str) else ""
    raise t.obstacle(f"an exception that the model always raises{message}", REWRITE)


def _nothing(t: Translator, node: Any, operands: list[Any]) -> Any:
    return None if node.outputsSize() == 1 else []


def _device(t: Translator, node: Any, operands: list[Any]) -> Any:
    return torch.device("cpu")


def _false(t: Translator, node: Any, operands: list[Any]) -> bool:
    return False


def _dtype(t: Translator, node: Any, operands: list[Any]) -> Any:
    return t.emit(getattr, (operands[0], "dtype"), number=True)


def _chunk(t: Translator, node: Any, operands: list[Any]) -> list[Any]:
    made = t.emit(torch.ops.aten.chunk.default, (operands[0], node.i("chunks"), node.i("dim")))
    return [t.emit(operator.getitem, (made, index)) for index in range(node.outputsSize())]


_KINDS: dict[str, type | tuple[type, ...]] = {
    "TensorType": (fx.Node, Tensor), "IntType": int, "FloatType": float, "BoolType": bool, "StringType": str,
    "NoneType": type(None), "ListType": list, "TupleType": tuple, "DictType": dict,
}  # fmt: skip


def _isinstance(t: Translator, node: Any, operands: list[Any]) -> bool:
    kinds = [kind.kind() for kind in node.tys("types")]
    if t.is_number(operands[0]):
        return bool({"IntType", "NumberType"} & set(kinds))
    return any(isinstance(operands[0], _KINDS.get(kind, ())) for kind in kinds)


def _python(t: Translator, node: Any, operands: list[Any]) -> Any:
    raise t.obstacle(
        f"a call back into Python, {node.pyname()}", "Write the function so that torch.jit.script takes it."
    )


def _assign(t: Translator, node: Any, operands: list[Any]) -> list[Any]:
    t.assign(operands[0], node.s("name"), operands[1])
    return []


PRIMITIVES: dict[str, Rule] = {
    "prim::Constant": _constant,
    "prim::GetAttr": _attribute,
    "prim::SetAttr": _assign,
    "prim::ListConstruct": lambda t, node, operands: list(operands),
    "prim::TupleConstruct": lambda t, node, operands: tuple(operands),
    "prim::DictConstruct": _dict,
    "prim::ListUnpack": _unpack,
    "prim::TupleUnpack": _unpack,
    "prim::TupleIndex": _item,
    "prim::TupleSlice": _tuple_slice,
    "prim::ConstantChunk": _chunk,
    "prim::Uninitialized": lambda t, node, operands: Uninitialized(),
    "prim::RaiseException": _raise,
    "prim::unchecked_cast": _first,
    "prim::unchecked_unwrap_optional": _first,
    "prim::data": _first,
    "prim::NumToTensor": _first,
    "prim::ImplicitTensorToNum": _number,
    "prim::Print": _nothing,
    "prim::device": _device,
    "prim::type": lambda t, node, operands: operands[0].type,
    "prim::layout": lambda t, node, operands: torch.strided,
    "prim::dtype": _dtype,
    "prim::requires_grad": _false,
    "prim::is_cuda": _false,
    "prim::is_quantized": _false,
    "prim::is_mkldnn": _false,
    "prim::isinstance": _isinstance,
    "prim::PythonOp": _python,
    "prim::min": lambda t, node, operands: _extreme(t, min, operands),
    "prim::max": lambda t, node, operands: _extreme(t, max, operands),
}
"""The rule of each: the translator, the node and its operands to the value, or to the values of several outputs."""


def _extreme(t: Translator, function: Callable[..., Any], operands: list[Any]) -> Any:
    if any(map(t.is_number, operands)):
        return t.emit(function, tuple(operands), number=True)
    return function(*operands)
