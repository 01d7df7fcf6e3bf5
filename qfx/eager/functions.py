"""Functions of torch on QTensors that compute new values: the op table's aliases, run one op at a time.

``torch.relu``, ``F.relu``, ``x.relu_()`` and ``nn.ReLU`` are all spellings of one row, so the table that normalizes
graphs says here, too, what a call means.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.eager.run import run_op
from qfx.errors import InputError, UnsupportedError
from qfx.ir.types import QParams
from qfx.ops.spellings import Alias, alias_of
from qfx.ops.table import TABLE
from qfx.ops.terms import NotNormal, Pieces, Term
from qfx.tensor import QTensor
from qfx.tensor.dispatch import name_of
from qfx.tensor.functions import Rule


def rule_of(func: Callable[..., Any]) -> Rule | None:
    """How ``func`` runs on QTensors, or None when the op table has no such function."""
    alias = _alias(func)
    if alias is None or (not alias.op and "dropout" not in alias.name):
        return None

    def rule(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _call(alias, func, args, kwargs)

    return rule


def _alias(func: Callable[..., Any]) -> Alias | None:
    known = alias_of(func)
    if known is None:
        name = getattr(func, "__name__", "")
        if getattr(torch.Tensor, name, None) is func:
            return alias_of(name)
        known = alias_of(getattr(torch, name, None)) or alias_of(getattr(F, name, None))
    return known


def _call(alias: Alias, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.__name__
    if TABLE.get(alias.op) is not None and TABLE[alias.op].weights:
        raise _needs_qparams(func, alias.op)
    given = dict(kwargs)
    out, inplace = given.pop("out", None), given.get("inplace", False) or _changes_in_place(name)
    if out is not None and not isinstance(out, QTensor):
        raise InputError(f"{name_of(func)} of a QTensor got a float out=.", remedy="Pass a QTensor as out=.")
    try:
        meaning, values = _meaning_of(alias, args, given)
        result = _Evaluation(func, values).of(meaning, None if out is None else out.qparams)
    except NotNormal as reason:
        raise UnsupportedError(
            f"{name_of(func)} is not defined on these operands: {reason}.",
            remedy="Call it on x.dequantize(), and quantize the result.",
        ) from None
    if out is not None:
        return out.resize_(result.shape).copy_(result)
    return args[0].copy_(result) if inplace else result


def _changes_in_place(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or name in (
        "__iadd__",
        "__isub__",
        "__imul__",
        "__itruediv__",
    )


@dataclass(frozen=True)
class _Operand:
    """A tensor argument as far as the meaning of a call depends on it."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _meaning_of(alias: Alias, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[fx.Node, Tensor]]:
    """The alias's term for a call, in which nodes stand for the tensors, and the tensors by node."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    described = tuple(_described(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    types = tuple(map(type, leaves))  # 1, 1.0 and True are equal, and mean different things
    try:
        term, nodes = _meaning(alias, spec, described, types)
    except TypeError:  # an argument that can't be a key
        term, nodes = _meaning.__wrapped__(alias, spec, described, types)
    return term, dict(zip(nodes, tensors, strict=True))


def _described(x: Tensor) -> _Operand:
    return _Operand(tuple(x.shape), torch.float32 if isinstance(x, QTensor) else x.dtype)


@functools.lru_cache(maxsize=1024)
def _meaning(alias: Alias, spec: Any, leaves: tuple[Any, ...], types: tuple[type, ...]) -> tuple[Any, list[fx.Node]]:
    graph = fx.Graph()
    nodes: list[fx.Node] = []
    placed: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, _Operand):
            node = graph.placeholder(f"x{len(nodes)}")
            node.meta.update(shape=leaf.shape, dtype=leaf.dtype)
            nodes.append(node)
            placed.append(node)
        else:
            placed.append(leaf)
    args, kwargs = pytree.tree_unflatten(placed, spec)
    return alias.apply(None, args, kwargs), nodes


@dataclass(frozen=True)
class _Evaluation:
    """A term being computed for the sake of ``func``."""

    func: Callable[..., Any]
    values: dict[fx.Node, Tensor]

    def of(self, term: Any, out: QParams | None = None) -> Any:
        if isinstance(term, fx.Node):
            return self.values[term]
        if isinstance(term, Pieces):
            return tuple(self.of(piece, out) for piece in term.all())
        if isinstance(term, (tuple, list)):
            return type(term)(self.of(item, out) for item in term)
        if not isinstance(term, Term):
            return term
        operands = [self.of(a) for a in term.args]
        if not isinstance(term.op, str):
            return term.op(*operands)
        attributes = {k: self.of(v) for k, v in term.kwargs.items()}
        if TABLE[term.op].qparams == "none":
            return TABLE[term.op].fn(*operands, **attributes)
        return run_op(term.op, *operands, out=out or self._qparams(term.op, operands), **attributes)

    def _qparams(self, name: str, operands: list[Any]) -> QParams | None:
        """The parameters of a result when the call names none.

        Raises:
            UnsupportedError: They can't be told from the operands.
        """
        if TABLE[name].qparams in ("share", "fixed"):
            return None
        if TABLE[name].keeps_range and isinstance(operands[0], QTensor):
            return operands[0].qparams
        raise _needs_qparams(self.func, name)


def _needs_qparams(func: Callable[..., Any], name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name_of(func)} on QTensors needs the scale and zero point of its result.",
        why="They can't be told from the operands: the result has a range of its own.",
        remedy=_remedy(name),
    )


def _remedy(name: str) -> str:
    op = TABLE[name]
    if not op.functional:
        return f"Use qfx.eager.run_op({name!r}, ..., out=qfx.QParams(...)), or compute on x.dequantize()."
    if "weight" in inspect.signature(op.fn).parameters:
        return f"Convert the layer to its quantized module, or use qfx.nn.quantized.functional.{op.functional}."
    if op.pointwise is not None:
        return f"Use qfx.nn.quantized.FloatFunctional().{name}, or qfx.nn.quantized.functional.{op.functional}."
    return (
        f"Use qfx.nn.quantized.FloatFunctional().{name} in the model (QFunctional once converted), "
        f"or qfx.nn.quantized.functional.{op.functional}(x, y, scale, zero_point)."
    )
