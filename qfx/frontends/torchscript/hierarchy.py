"""The module that a node of an inlined graph, as a frozen one, comes from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

from qfx.frontends.constants import join
from qfx.frontends.leaves import builtin_base

if TYPE_CHECKING:
    from qfx.frontends.torchscript.writer import Frame

_ATOM = re.compile(r"(?P<name>[^.()]+)\((?P<kind>[^()]*)\)")
_INSIDE = ("SELF", "UNKNOWN_INSTANCE")
_SCOPE = "__module."
_CONSTANT = re.compile(r"self\.(?P<path>.+)$")
_FUSED = re.compile(r"_fused_bn(\.\d+)?$")


def place(node: Any, frame: Frame) -> tuple[str, type[nn.Module] | None]:
    """Path and class of the layer, or path of the module, in which a node's code was.

    Scripted code says the name of a module in each call, not the containers on the way to it; the names of the
    constants that an operation uses say the whole path.
    """
    atoms = [(m["name"], m["kind"]) for m in _ATOM.finditer(node.getModuleHierarchy()) if m["name"] not in _INSIDE]
    if not atoms or frame.layer is not None:
        return frame.path, frame.layer
    scope = node.scopeName().rpartition("/")[2]
    path = scope.removeprefix(_SCOPE) if scope.startswith(_SCOPE) else ".".join(name for name, _ in atoms)
    layer = _layer(atoms[-1][1])
    if layer is not None:
        owners = {constant.rpartition(".")[0] for value in node.inputs() if (constant := constant_path(value))}
        path = next((owner for owner in owners if _ends_alike(owner, path)), path)
    return join(frame.path, path) if path else frame.path, layer


def constant_path(value: Any) -> str | None:
    """The path of the tensor that freezing made the constant ``value`` of, also where a batch norm is folded into it.

    The name of a folded bias is that of None wherever that came from first, so it is taken from its weight's.
    """
    fused = _FUSED.search(value.debugName()) is not None
    for use in value.uses() if fused else ():
        weight, name = list(use.user.inputs())[1], {1: "weight", 2: "bias"}.get(use.offset)
        owner = (_written(weight) or "").rpartition(".")[0]
        if owner and name:
            return join(owner, name)
    return None if fused else _written(value)


def _written(value: Any) -> str | None:
    match = _CONSTANT.match(_FUSED.sub("", value.debugName()))
    return match["path"] if match is not None and value.node().kind() == "prim::Constant" else None


def _layer(name: str) -> type[nn.Module] | None:
    found = getattr(nn, name, None)
    return found if isinstance(found, type) and builtin_base(found) is not None else None


def _ends_alike(path: str, other: str) -> bool:
    return path.rpartition(".")[2] == other.rpartition(".")[2]
