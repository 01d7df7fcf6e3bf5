"""Functions that scripted code calls: those of ``torch.nn.functional`` as they are, others by their code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from qfx.frontends.torchscript.overloads import dtype_of

_FUNCTIONAL = re.compile(r"__torch__\.torch\.nn\.functional\.(?:___torch_mangle_\d+\.)?(\w+)$")
_DISPATCHED = re.compile(r"_((?:adaptive_)?max_pool\dd)$")
"""The half of a pool that returns no indices, under its private name."""


@dataclass(frozen=True)
class FunctionValue:
    """A function as a value of the interpreted code, by its qualified name."""

    name: str

    @property
    def last(self) -> str:
        """Its own name."""
        return self.name.rpartition(".")[2]


def functional(function: FunctionValue) -> Callable[..., Any] | None:
    """The function of ``torch.nn.functional`` that ``function`` is, or None."""
    match = _FUNCTIONAL.match(function.name)
    if match is None:
        return None
    name = match[1]
    dispatched = _DISPATCHED.match(name)
    found = getattr(F, dispatched[1] if dispatched else name, None)
    public = dispatched is not None or not name.startswith("_")
    return found if public and callable(found) and _parameters(found) is not None else None


def bind(function: Callable[..., Any], values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with one value for each parameter in order; defaults at the end are left out.

    TorchScript numbers the dtypes: an integer for a parameter of that name is one.
    """
    parameters = _parameters(function) or []
    pairs = [(p, dtype_of(v) if p.name == "dtype" else v) for p, v in zip(parameters, values, strict=False)]
    keywords = {p.name: v for p, v in pairs if p.kind is p.KEYWORD_ONLY and not _same(v, p.default)}
    positional = [(p, v) for p, v in pairs if p.kind is not p.KEYWORD_ONLY]
    while positional and _same(positional[-1][1], positional[-1][0].default):
        positional.pop()
    return tuple(value for _, value in positional), keywords


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        other = getattr(F, f"_{function.__name__}", None)
        return _parameters(other) if other is not None else None
    return parameters


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def body(call: Any, function: FunctionValue) -> Any:
    """The graph of the function that the node ``call`` calls.

    With its own calls kept as calls where the process still has the function; all inlined otherwise.
    """
    inlined = _inlined(call)
    known = torch.jit._state._python_cu.find_function(function.name)
    return known.graph if known is not None and _text(known.inlined_graph) == _text(inlined) else inlined


def _inlined(call: Any) -> Any:
    graph: Any = torch._C.Graph()
    callee, *operands = call.inputs()
    values = {callee.debugName(): graph.insertNode(graph.createClone(callee.node(), lambda value: value)).output()}
    for operand in operands:
        new = graph.addInput()
        new.setType(operand.type())
        values[operand.debugName()] = new
    copy = graph.insertNode(graph.createClone(call, lambda value: values[value.debugName()]))
    for output in copy.outputs():
        graph.registerOutput(output)
    torch._C._jit_pass_inline(graph)
    return graph


def _text(graph: Any) -> str:
    """The graph with values numbered in order, without source lines."""
    copy = graph.copy()
    torch._C._jit_pass_dce(copy)
    canonical = torch._C._jit_pass_canonicalize(copy, False)
    return re.sub(r"(, scope: [^#\n]*)?( # .*)?$", "", str(canonical), flags=re.MULTILINE)
