"""The user's names inside our graphs: none of them meets a name of ours, of torch's, or of Python's.

Inside, a component of a path that would is written as a token: it ends in a mark that no name of a user's has. What
leaves (state_dicts, reports, errors) has the user's names again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from torch import Tensor, fx, nn

from qfx.ir.names import stands_in_code

MARK = "\u02b9"
"""Ends a token. A letter, so that tokens are Python names; :mod:`qfx.frontends.accepted` refuses it in a user's."""

_reserved = {name for name in dir(fx.GraphModule(nn.Module(), fx.Graph())) if not hasattr(nn.Module, name)}
_reserved |= {"self"}  # what generated code calls the module


def reserve(names: Iterable[str]) -> None:
    """Take ``names`` for attributes of a class that holds the user's modules and tensors beside its own."""
    _reserved.update(names)


def reserve_class(cls: type) -> None:
    """Take the attributes of ``cls``, and those that its annotations say its instances have."""
    declared = (name for base in cls.__mro__ for name in vars(base).get("__annotations__", ()))
    reserve(name for name in {*dir(cls), *declared} if not hasattr(nn.Module, name))


def token_path(path: str) -> str:
    """A dotted path of the user's as our graphs write it; of one that is so written already, itself."""
    if not path:
        return path
    first, *rest = path.split(".")
    return ".".join([_token(first, _reserved), *(_token(name, ()) for name in rest)])


def user_path(path: str) -> str:
    """The user's path of what :func:`token_path` made."""
    return ".".join(map(_user_name, path.split("."))) if MARK in path else path


def _token(name: str, reserved: Iterable[str]) -> str:
    if MARK in name:
        return name
    if name not in reserved and stands_in_code(name):
        return name
    return quote(name, safe=" ") + MARK


def _user_name(name: str) -> str:
    """Without the mark; what stands behind it was added to a token, as ``_scale`` is to the name of a weight."""
    token, mark, rest = name.partition(MARK)
    return unquote(token) + rest if mark else name


def graph_module_of(root: nn.Module | Mapping[str, Any], graph: fx.Graph, class_name: str) -> fx.GraphModule:
    """``fx.GraphModule(root, graph, class_name)``, with tokens for the paths that ``graph`` reads in ``root``."""
    holder, read = nn.Module(), {}
    for node in graph.nodes:
        if node.name == "self":
            node._rename("self_module")
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            node.target = token_path(path)
            read[node.target] = root[path] if isinstance(root, Mapping) else found(root, path)
    for path in sorted(read, key=lambda path: path.count(".")):  # a module before what lies in it
        _put(holder, path, read[path])
    return fx.GraphModule(holder, graph, class_name)


def _put(holder: nn.Module, path: str, value: Any) -> None:
    """Put ``value`` at ``path``, with empty modules on the way, unless it is there as a part of something else."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(holder, parent):
            holder.add_module(parent, nn.Module())
        holder = getattr(holder, parent)
    if not hasattr(holder, name):
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            holder.register_buffer(name, value)
        else:
            setattr(holder, name, value)


def put_tokens(gm: fx.GraphModule) -> None:
    """Give what ``gm``'s graph reads its tokens in modules of the user's too, which have it under its own name."""
    for node in gm.graph.nodes:
        if node.op in ("call_module", "get_attr") and MARK in str(node.target):
            owner: Any = gm
            for name in str(node.target).split("."):
                if not hasattr(owner, name):
                    setattr(owner, name, member(owner, _user_name(name)))
                owner = getattr(owner, name)


def found(root: nn.Module, path: str) -> Any:
    """What the user's module ``root`` has at the user's ``path``; None where there is nothing."""
    value: Any = root
    for name in path.split("."):
        value = member(value, name, None)
    return value


def member(owner: Any, name: str, *default: Any) -> Any:
    """What the user's module ``owner`` has under ``name``, even where its class has an attribute of that name.

    Raises:
        AttributeError: There is nothing, and no ``default``.
    """
    if isinstance(owner, nn.Module):
        for held in (owner._modules, owner._parameters, owner._buffers):
            if name in held:
                return held[name]
    return getattr(owner, name, *default)
