"""Where in the user's model a node of an exported graph comes from, as the symbolic frontend would say it."""

from __future__ import annotations

import operator
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.frontends.leaves import builtin_base
from qfx.frontends.source import is_internal

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)\n(?:    (?P<text>[^\n]*))?')
_OPERATORS = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "matmul": operator.matmul, "neg": operator.neg, "pow": operator.pow, "getitem": operator.getitem,
    "truediv": operator.truediv, "rsub": operator.sub, "rdiv": operator.truediv,
}  # fmt: skip
"""Methods that operators call. What a user wrote as a method of these names is taken for the operator."""


def origin_of_node(node: fx.Node, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """``module_path``, ``source`` and, where they are known, ``module_class`` and ``alias`` of an exported node.

    Args:
        node: A node of an exported graph.
        modules: The modules of the model by path, as far as there is a model.
    """
    stack = [entry for key, entry in node.meta.get("nn_module_stack", {}).items() if not key.startswith("_empty")]
    path = _path(stack[-1][0]) if stack else ""
    module = modules.get(path)
    kind = type(module) if module is not None and stack else _class(stack[-1][1]) if stack else None
    found: dict[str, Any] = {"module_path": path, "source": _source(node.meta.get("stack_trace"))}
    base = builtin_base(kind) if kind is not None else None
    if base is not None:
        found.update(module_class=kind, call=list(node.meta["nn_module_stack"])[-1])
    elif node.op == "call_function":
        found["alias"] = _spelling(node)
    return found


def _path(path: str) -> str:
    """A path as ``named_modules`` gives it."""
    path = re.sub(r"^L\['self'\]\.?|^L__self__\.?", "", path)
    path = re.sub(
        r"\._modules\['([^']*)'\]|\['([^']*)'\]|\[(\d+)\]", lambda m: "." + next(filter(None, m.groups())), path
    )
    return re.sub(r"@\d+$", "", path.lstrip("."))


def _class(name: Any) -> type[nn.Module] | None:
    """The module class of a qualified name, where the process has imported it."""
    if isinstance(name, type):
        return name
    scope, _, attribute = str(name).rpartition(".")
    found = getattr(sys.modules.get(scope), attribute, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def _source(trace: str | None) -> str | None:
    """The innermost line of user code in a stack trace, as :func:`qfx.frontends.source.describe_line` spells it."""
    frames = [match for match in _FRAME.finditer(trace or "") if not is_internal(match["file"])]
    frames = [match for match in frames if not match["file"].startswith(("<", "torch/"))]
    if not frames:
        return None
    last = frames[-1]
    place = f"{os.path.basename(last['file'])}:{last['line']}, in {last['name']}"
    text = (last["text"] or "").strip()
    return f"{place}: {text}" if text else place


def _spelling(node: fx.Node) -> Any:
    """The function or method name that the user wrote: recorded by the exporter, else the likeliest one."""
    recorded = str(node.meta.get("torch_fn", ("", ""))[1])
    kind, _, name = recorded.rpartition(".")
    if node.target is operator.getitem:
        return node.target
    name = name.strip("_") if name.startswith("__") else name
    if kind in ("method_descriptor", "wrapper_descriptor", "method-wrapper"):
        stem = name[1:] if name in _REVERSED_OR_IN_PLACE else name
        if stem in _OPERATORS:
            return _OPERATORS[stem]
        return name if hasattr(Tensor, name) else node.target
    if kind == "builtin_function_or_method" and not isinstance(node.target, torch._ops.OpOverload):
        return node.target
    places = (F, torch) if kind == "function" else (torch, F)
    packet = getattr(node.target, "overloadpacket", node.target)
    for candidate in (name, name.removeprefix("_"), str(getattr(packet, "__name__", "")).rstrip("_")):
        found = next((getattr(place, candidate) for place in places if candidate and hasattr(place, candidate)), None)
        if callable(found):
            return found
    return _OPERATORS.get(str(getattr(packet, "__name__", "")).rstrip("_"), node.target)


_REVERSED_OR_IN_PLACE = {"radd", "rmul", "iadd", "isub", "imul", "itruediv"}
