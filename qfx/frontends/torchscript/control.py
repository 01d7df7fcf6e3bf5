"""Branches and loops: taken and unrolled where constants decide."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from qfx.frontends.torchscript.obstacle import BRANCH, BRANCH_ON_SHAPE, FLOAT32, LOOP

if TYPE_CHECKING:
    from qfx.frontends.torchscript.translate import Translator

_MOST_ITERATIONS = 10_000


def branch(t: Translator, node: Any, env: dict[str, Any]) -> list[Any]:
    """``if``: by its condition, and by that one side only raises where the condition is computed."""
    condition = env[node.input().debugName()]
    taken, other = node.blocks()
    if isinstance(condition, (fx.Node, Tensor)):
        if node.outputsSize() == 0 and _is_idle(taken) and _is_idle(other):
            return []
        if _asks_whether_empty(condition):
            return t.run_block(other, env)
        live = [block for block in (taken, other) if not _raises(block)]
        if len(live) != 1:
            if _asks_dtype(condition):
                raise t.obstacle("control flow that depends on a tensor's dtype", FLOAT32)
            if t.is_number(condition):
                raise t.obstacle("control flow that depends on a tensor's shape", BRANCH_ON_SHAPE)
            raise t.obstacle("control flow that depends on a tensor's values", BRANCH)
        return t.run_block(live[0], env)
    return t.run_block(taken if condition else other, env)


def loop(t: Translator, node: Any, env: dict[str, Any]) -> list[Any]:
    """``for`` and ``while``."""
    most, proceed, *carried = (env[value.debugName()] for value in node.inputs())
    (body,) = node.blocks()
    names = [value.debugName() for value in body.inputs()]
    done = 0
    while _known(t, most, proceed) and proceed and done < most:
        if done >= _MOST_ITERATIONS:
            raise t.obstacle(f"a loop of more than {_MOST_ITERATIONS} iterations", LOOP)
        env.update(zip(names, [done, *carried], strict=True))
        proceed, *carried = t.run_block(body, env)
        done += 1
    return carried


def _known(t: Translator, *values: Any) -> bool:
    if any(isinstance(value, (fx.Node, Tensor)) for value in values):
        raise t.obstacle("a loop whose number of iterations depends on a tensor", LOOP)
    return True


def _is_idle(block: Any) -> bool:
    """Whether a block does nothing but warn, print and raise."""
    return all(node.kind() in _IDLE or (node.kind() == "prim::If" and all(map(_is_idle, node.blocks())))
               for node in block.nodes())  # fmt: skip


_IDLE = {"aten::warn", "aten::format", "prim::Constant", "prim::Print", "prim::RaiseException", "prim::TupleConstruct"}


def _asks_whether_empty(condition: Any) -> bool:
    """Whether a condition is ``x.numel() == 0``: what torch's own code asks first, and no layer is there for."""
    numel = condition.args[0] if isinstance(condition, fx.Node) and condition.target is operator.eq else None
    return isinstance(numel, fx.Node) and numel.target == "numel" and condition.args[1] == 0


def _asks_dtype(condition: Any) -> bool:
    """Whether a condition is ``x.is_floating_point()``, or compares ``x.dtype``."""
    asked = [condition, *condition.args] if isinstance(condition, fx.Node) else []
    nodes = [node for node in asked if isinstance(node, fx.Node)]
    return any(n.target is torch.ops.aten.is_floating_point.default for n in nodes) or any(
        n.target is getattr and n.args[1] == "dtype" for n in nodes
    )


def _raises(block: Any) -> bool:
    """Whether every way through a block ends in an exception."""
    for node in block.nodes():
        if node.kind() == "prim::RaiseException":
            return True
        if node.kind() == "prim::If" and all(map(_raises, node.blocks())):
            return True
    return False


CONTROL: dict[str, Callable[[Translator, Any, dict[str, Any]], list[Any]]] = {"prim::If": branch, "prim::Loop": loop}
