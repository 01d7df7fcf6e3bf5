"""State of parts that stay float: a converted model starts where the float model was, not where calibration ended."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.frontends.constants import parent
from qfx.frontends.places import ATOMS, Place
from qfx.frontends.state import Snapshot

ISLAND_STATE = "island_state"
"""Key of a graph's ``meta``: by path of a module, by name of the attribute, what it was when the model was captured."""

_ABSENT = "qfx.absent"
"""What stands for an attribute that was not there."""


def remember(captured: fx.GraphModule, places: Iterable[Place]) -> None:
    """Notes what is at ``places`` of modules that calls change."""
    kept: dict[str, dict[str, Any]] = {}
    for place in places:
        module = _module(captured, place.owner)
        if module is not None:
            kept.setdefault(place.owner, {})[place.attribute] = copy.deepcopy(_attribute(module, place.attribute))
    if kept:
        captured.meta[ISLAND_STATE] = kept


def remember_child(captured: fx.GraphModule, paths: Iterable[str], name: str) -> None:
    """Notes the submodule ``name`` of each of the modules at ``paths``, with all that is in it."""
    kept = {path: {name: copy.deepcopy(captured.get_submodule(path))} for path in paths}
    if kept:
        captured.meta[ISLAND_STATE] = kept


def put_back(owner: nn.Module, kept: dict[str, dict[str, Any]]) -> None:
    """Gives the modules of ``owner`` the attributes that were noted."""
    for path, attributes in kept.items():
        module = _module(owner, path)
        for name, value in attributes.items() if module is not None else ():
            _set(module, name, copy.deepcopy(value))


def renew_islands(gm: fx.GraphModule) -> fx.GraphModule:
    """Put copies, which share the parameters, in the place of modules whose state was noted; they are as they were."""
    kept: dict[str, dict[str, Any]] = gm.meta.get(ISLAND_STATE, {})
    for path in {str(node.target) for node in gm.graph.find_nodes(op="call_module")}:
        inside = {inner: names for inner, names in kept.items() if f"{inner}.".startswith(f"{path}.")}
        if inside:
            setattr(gm.get_submodule(parent(path)), path.rpartition(".")[2], _copy(gm, path, inside))
    put_back(gm, kept)
    return gm


@contextlib.contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """While active, calls of ``module`` may change what it keeps; then it is put back."""
    before = Snapshot(module)
    try:
        yield
    finally:
        before.restore()


@contextlib.contextmanager
def islands_unchanged(owner: nn.Module, graph: fx.Graph) -> Iterator[None]:
    """While active, calls may change what float parts of ``graph``, modules of ``owner``, keep; then it is put back."""
    calls = (node for node in graph.find_nodes(op="call_module") if "island_reason" in node.meta)
    with contextlib.ExitStack() as kept:
        for path in dict.fromkeys(str(node.target) for node in calls):
            kept.enter_context(unchanged(owner.get_submodule(path)))
        yield


def _copy(gm: fx.GraphModule, path: str, kept: dict[str, dict[str, Any]]) -> nn.Module:
    module = gm.get_submodule(path)
    changing = {id(value): value for value in _changing(gm, kept)}
    memo: dict[int, Any] = {id(p): p for p in module.parameters() if id(p) not in changing}
    memo.update((key, None) for key, value in changing.items() if not _is_registered(module, value))
    return copy.deepcopy(module, memo)


def _is_registered(module: nn.Module, value: Any) -> bool:
    return isinstance(value, Tensor) and any(value is t for t in (*module.parameters(), *module.buffers()))


def _changing(gm: fx.GraphModule, kept: dict[str, dict[str, Any]]) -> Iterator[Any]:
    """What the attributes hold now, which need not be fit to be copied."""
    for path, attributes in kept.items():
        module = _module(gm, path)
        for name in attributes if module is not None else ():
            value = _attribute(module, name)
            if not isinstance(value, (nn.Module, *ATOMS)):
                yield value


def _module(owner: nn.Module, path: str) -> Any:
    try:
        return owner.get_submodule(path)
    except AttributeError:  # which the graph does not call
        return None


def _attribute(module: nn.Module, name: str) -> Any:
    return {**module._parameters, **module._buffers}.get(name, vars(module).get(name, _ABSENT))


def _set(module: Any, name: str, value: Any) -> None:
    registered = {**module._parameters, **module._buffers}.get(name)
    if name in module._modules:
        module._modules[name] = value._modules[name]
    elif isinstance(registered, Tensor) and isinstance(value, Tensor):
        with torch.no_grad():
            registered.copy_(value)
    elif isinstance(value, str) and value == _ABSENT:
        vars(module).pop(name, None)
    else:
        vars(module)[name] = value
