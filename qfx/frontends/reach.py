"""The kinds of objects through which a model keeps something: what each holds, and how it is put back."""

from __future__ import annotations

import collections
import functools
import sys
import types
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

from qfx.frontends.constants import join
from qfx.frontends.places import ATOMS, Place

_NAMESPACES = ("types", "argparse")
"""Packages of Python's own whose objects only hold what is put into them."""

_OTHERS = frozenset({"torch", "torchgen", "numpy", "qfx", *sys.stdlib_module_names})
"""Packages whose classes and functions keep nothing for a model."""

_BOOKKEEPING = {"_non_persistent_buffers_set", "_is_full_backward_hook", "_backward_hooks", "_backward_pre_hooks"}
"""Attributes of every module that no forward reads."""

_EMPTY = object()
"""What a cell without a value holds."""


Parts = Iterator[tuple[Any, Place]]


class Kind(NamedTuple):
    """A kind of object.

    Attributes:
        read: What it holds, which does not change with it.
        write: Puts that back.
        parts: Every value among what it holds, with its place, given the place of the object.
        whole: Whether what it holds is compared as one, because it has no parts.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]
    parts: Callable[[Any, Place], Parts]
    whole: bool = False


def kinds_of(value: Any) -> list[Kind]:
    """What there is to keep of ``value``: items, attributes, both or nothing."""
    if isinstance(value, (fx.Proxy, *ATOMS)):
        return []
    if type(value).__module__ == "itertools" or isinstance(value, _ITERATORS):
        return [_ITERATOR]
    found = next((kind for cls, kind in _KINDS.items() if isinstance(value, cls)), None)
    own = _OBJECT if holds_state(value) and not isinstance(value, nn.Module) else None
    return [kind for kind in (found, own) if kind is not None]


def holds_state(value: Any) -> bool:
    """Whether ``value`` is an object of somebody's own class, whose attributes are its state."""
    if isinstance(value, (fx.Proxy, Tensor, types.ModuleType, type)) or not (_has_dict(value) or _slots(type(value))):
        return False
    return type(value).__module__ in _NAMESPACES or _is_of_users(type(value))


def has_elements(tensor: Tensor) -> bool:
    """Whether the elements of ``tensor`` can be read: one of an export, or without data, has none."""
    plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
    return plain and tensor.layout is torch.strided and not tensor.is_meta and not tensor.is_quantized


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, by name."""
    own = dict(vars(value)) if _has_dict(value) else {}
    return {**own, **{name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}}


def _is_of_users(thing: Any) -> bool:
    return str(getattr(thing, "__module__", None) or "").partition(".")[0] not in _OTHERS


def _has_dict(value: Any) -> bool:
    return any("__dict__" in vars(cls) for cls in type(value).__mro__)


def _slots(cls: type) -> list[str]:
    members = (pair for base in cls.__mro__ if _is_of_users(base) for pair in vars(base).items())
    return [name for name, member in members if isinstance(member, types.MemberDescriptorType)]


def _set_attributes(value: Any, attributes: dict[str, Any]) -> None:
    now = attributes_of(value)
    for name in now.keys() - attributes.keys():
        object.__delattr__(value, name)
    for name, item in attributes.items():
        if name not in now or now[name] is not item:
            object.__setattr__(value, name, item)


def _of_attributes(attributes: dict[str, Any], place: Place) -> Parts:
    return ((item, place.named(name)) for name, item in attributes.items())


# Modules and their classes.


class _Module(NamedTuple):
    attributes: dict[str, Any]
    classes: tuple[type, ...]


def _read_module(module: nn.Module) -> _Module:
    return _Module(dict(vars(module)), tuple(filter(_is_of_users, type(module).__mro__)))


def _write_module(module: nn.Module, contents: _Module) -> None:
    _write_dict(vars(module), contents.attributes)


def _of_module(contents: _Module, place: Place) -> Parts:
    for name, value in contents.attributes.items():
        if name in _PARTS_OF_MODULES:
            yield _PARTS_OF_MODULES[name](value), place
        elif name not in _BOOKKEEPING:
            yield value, place.named(name)
    for cls in contents.classes:
        yield cls, place


class _Registered(NamedTuple):
    """The parameters or the buffers of a module."""

    of: dict[str, Any]


class _Children(NamedTuple):
    """The submodules of a module."""

    of: dict[str, Any]


_PARTS_OF_MODULES = {"_parameters": _Registered, "_buffers": _Registered, "_modules": _Children}


def _of_registered(contents: dict[str, Any], place: Place) -> Parts:
    return ((value, place._replace(name=name, registered=True)) for name, value in contents.items())


def _of_children(contents: dict[str, Any], place: Place) -> Parts:
    return ((value, Place(join(place.owner, name))) for name, value in contents.items())


def _read_class(cls: type) -> dict[str, Any]:
    own = vars(cls).items() if _is_of_users(cls) else ()
    return {
        name: value for name, value in own if not (name.startswith("__") and name.endswith("__")) or callable(value)
    }


def _write_class(cls: type, contents: dict[str, Any]) -> None:
    now = _read_class(cls)
    for name in now.keys() - contents.keys():
        delattr(cls, name)
    for name, value in contents.items():
        if name not in now or now[name] is not value:
            setattr(cls, name, value)


# Functions.


class _Code(NamedTuple):
    """What a function reads besides its arguments."""

    cells: dict[str, Any]
    globals: dict[str, Any]
    own: dict[str, Any]


def _read_function(function: types.FunctionType) -> _Code:
    if not _is_of_users(function):
        return _Code({}, {}, {})
    scope = function.__globals__
    names = (name for name in sorted(_names(function.__code__)) if name in scope)
    read = {name: scope[name] for name in names if _is_near(scope[name], function)}
    own = {"defaults": function.__defaults__, "kwdefaults": function.__kwdefaults__, **vars(function)}
    return _Code({name: _cell(cell) for name, cell in _cells(function).items()}, read, own)


def _is_near(value: Any, function: types.FunctionType) -> bool:
    """Whether what a function finds in its globals is data, or code beside it."""
    if isinstance(value, (types.FunctionType, type)):
        return value.__module__ == function.__module__
    return not isinstance(value, types.ModuleType)


def _write_function(function: types.FunctionType, contents: _Code) -> None:
    if not _is_of_users(function):
        return
    for name, cell in _cells(function).items():
        if _cell(cell) is not contents.cells[name] and contents.cells[name] is not _EMPTY:
            cell.cell_contents = contents.cells[name]
    scope, now = function.__globals__, _read_function(function).globals
    for name in now.keys() - contents.globals.keys():
        del scope[name]
    for name, value in contents.globals.items():
        if scope.get(name, _EMPTY) is not value:
            scope[name] = value


def _of_function(contents: _Code, place: Place) -> Parts:
    for name, value in (*contents.cells.items(), *contents.globals.items()):
        yield value, place._replace(name=name)
    for name, value in contents.own.items():
        yield value, place.named(name)


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(item) for item in code.co_consts if isinstance(item, types.CodeType))
    return set(code.co_names).union(*inner)


def _cells(function: types.FunctionType) -> dict[str, Any]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


# Tensors and containers.


def _read_tensor(tensor: Tensor) -> Tensor | None:
    return tensor.detach().clone() if has_elements(tensor) else None


def _write_tensor(tensor: Tensor, contents: Tensor | None) -> None:
    if contents is None:
        return
    with torch.no_grad():
        if tensor.shape != contents.shape or tensor.dtype != contents.dtype:
            tensor.data = contents.clone()
        elif not torch.equal(tensor, contents):
            tensor.copy_(contents)


def _write_array(array: Any, contents: Any) -> None:
    if array.flags.writeable:
        np.copyto(array, contents)


# A container of somebody's own class is read and written by the methods of its base: its own may do anything.


def _read_dict(target: Any) -> dict[Any, Any]:
    if not isinstance(target, dict):  # the attributes of a scripted module
        return dict(target)
    return {key: dict.__getitem__(target, key) for key in _base_of(target).__iter__(target)}


def _write_dict(target: Any, contents: dict[Any, Any]) -> None:
    now, base = _read_dict(target), _base_of(target)
    if [*now] != [*contents] or any(now[key] is not value for key, value in contents.items()):
        base.clear(target)
        for key, value in contents.items():
            base.__setitem__(target, key, value)


def _read_sequence(target: Any) -> list[Any]:
    return list(_base_of(target).__iter__(target))


def _write_sequence(target: Any, contents: list[Any]) -> None:
    now, base = _read_sequence(target), _base_of(target)
    if len(now) != len(contents) or any(one is not before for one, before in zip(now, contents, strict=True)):
        base.clear(target)
        base.extend(target, contents)


def _write_set(target: set[Any], contents: set[Any]) -> None:
    set.clear(target)
    set.update(target, contents)


def _base_of(target: Any) -> Any:
    bases = (collections.OrderedDict, dict, list, collections.deque, tuple)
    return next((base for base in bases if isinstance(target, base)), type(target))


def _nothing(*_: Any) -> None:
    return None


def _no_parts(contents: Any, place: Place) -> Parts:
    return iter(())


def _of_items(contents: Any, place: Place) -> Parts:
    return ((value, place.item(key)) for key, value in enumerate(contents))


def _of_mapping(contents: dict[Any, Any], place: Place) -> Parts:
    return ((value, place.item(key)) for key, value in contents.items())


def _of_parts(contents: tuple[Any, ...], place: Place) -> Parts:
    return ((value, place) for value in contents)


_ITERATORS = tuple(type(iter(made)) for made in (list[int](), (), dict[int, int](), set[int](), range(0)))
_OBJECT = Kind(attributes_of, _set_attributes, _of_attributes)
_ITERATOR = Kind(lambda value: (length_hint(value, 0), repr(value)), _nothing, _no_parts, whole=True)
_KINDS: dict[Any, Kind] = {
    nn.Module: Kind(_read_module, _write_module, _of_module),
    _Registered: Kind(lambda part: dict(part.of), lambda part, was: _write_dict(part.of, was), _of_registered),
    _Children: Kind(lambda part: dict(part.of), lambda part, was: _write_dict(part.of, was), _of_children),
    Tensor: Kind(_read_tensor, _write_tensor, _no_parts, whole=True),
    np.ndarray: Kind(lambda array: array.copy(), _write_array, _no_parts, whole=True),
    dict: Kind(_read_dict, _write_dict, _of_mapping),
    list: Kind(_read_sequence, _write_sequence, _of_items),
    collections.deque: Kind(_read_sequence, _write_sequence, _of_items),
    set: Kind(lambda found: set().union(set.__iter__(found)), _write_set, _no_parts, whole=True),
    tuple: Kind(_read_sequence, _nothing, _of_items),
    type: Kind(_read_class, _write_class, _of_attributes),
    types.FunctionType: Kind(_read_function, _write_function, _of_function),
    types.MethodType: Kind(lambda method: (method.__self__, method.__func__), _nothing, _of_parts),
    staticmethod: Kind(lambda method: (method.__func__,), _nothing, _of_parts),
    classmethod: Kind(lambda method: (method.__func__,), _nothing, _of_parts),
    property: Kind(lambda found: (found.fget, found.fset), _nothing, _of_parts),
    functools.partial: Kind(lambda call: (call.func, call.args, call.keywords), _nothing, _of_parts),
}
"""By class; an object of another class is one of its attributes, if the class is somebody's own."""
