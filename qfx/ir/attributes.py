"""Tensors and modules of a module tree by dotted path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from qfx.ir.types import QDType, QParams
from qfx.ir.user_names import token_path


def attribute(root: nn.Module, path: str) -> Tensor:
    """The tensor at ``path`` (``"layer1.0.conv1.weight"``)."""
    parent, _, name = token_path(path).rpartition(".")
    value = getattr(root.get_submodule(parent), name)
    assert isinstance(value, Tensor), f"{path} is no tensor"
    return value


def read_qparams(root: nn.Module, node: fx.Node) -> QParams:
    """The qparams of a quantize node of ``root``'s graph, from the buffers that it names."""
    scale, zero = (_plain(attribute(root, str(a.target))) for a in node.args[1:3] if isinstance(a, fx.Node))
    given: dict[str, Any] = dict(node.kwargs)
    kind = QDType.parse(given["dtype"])
    return QParams(scale, zero, kind, given.get("axis"), given.get("quant_min"), given.get("quant_max"))


def _plain(value: Tensor) -> Any:
    return value.item() if value.dim() == 0 else tuple(value.tolist())


def set_buffer(gm: fx.GraphModule, path: str, value: Tensor) -> None:
    """Put ``value`` at ``path`` as a buffer, creating the modules on the way and replacing what is there."""
    parent, _, name = token_path(path).rpartition(".")
    if parent:
        try:
            owner = gm.get_submodule(parent)
        except AttributeError:
            gm.add_submodule(parent, nn.Module())
            owner = gm.get_submodule(parent)
    else:
        owner = gm
    if hasattr(owner, name):
        delattr(owner, name)
    owner.register_buffer(name, value)


def put(tree: nn.Module, path: str, value: Any, *, persistent: bool = True) -> None:
    """Put ``value`` at ``path``, with empty modules on the way; a buffer of a module that is there already stays."""
    owner = tree
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in owner._modules:
            owner.add_module(parent, nn.Module())
        owner = owner.get_submodule(parent)
    if isinstance(value, nn.Module):
        owner.add_module(name, value)
    elif isinstance(value, nn.Parameter):
        owner.register_parameter(name, value)
    elif name not in owner._buffers:
        owner.register_buffer(name, value, persistent=persistent)


def member(root: nn.Module, path: str) -> Any:
    """What is at a path of names in code, None for nothing."""
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def members(root: nn.Module, nodes: Iterable[fx.Node]) -> dict[str, Any]:
    """The modules and tensors that nodes name, by path."""
    paths = dict.fromkeys(str(node.target) for node in nodes if node.op in ("get_attr", "call_module"))
    return {path: member(root, path) for path in paths}


def tree_of(found: Mapping[str, Any]) -> nn.Module:
    """A module tree with these members at their paths."""
    tree = nn.Module()
    for path in sorted(found, key=lambda path: path.count(".")):  # a member may lie in another
        if member(tree, path) is not found[path]:
            put(tree, path, found[path])
    return tree


def has_attribute(root: nn.Module, path: str) -> bool:
    """Whether anything sits at ``path``."""
    owner: object = root
    for name in token_path(path).split("."):
        if not hasattr(owner, name):
            return False
        owner = getattr(owner, name)
    return True


def is_tensor(root: nn.Module, path: str) -> bool:
    """Whether a tensor sits at ``path``."""
    if not has_attribute(root, path):
        return False
    owner: object = root
    for name in token_path(path).split("."):
        owner = getattr(owner, name)
    return isinstance(owner, Tensor)


def is_free(root: nn.Module, path: str, name: str) -> bool:
    """Whether a tensor ``name`` can be put into a module at ``path``: nothing but a module without it is there."""
    if has_attribute(root, f"{path}.{name}"):
        return False
    owner: object = root
    for part in token_path(path).split("."):
        if not hasattr(owner, part):
            return True
        owner = getattr(owner, part)
        if not isinstance(owner, nn.Module):
            return False
    return True
