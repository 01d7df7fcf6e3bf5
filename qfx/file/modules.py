"""Modules in a file: class, plain members, tensors and children; of torch's own classes and qfx's, never a user's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qfx.errors import ConversionError
from qfx.file.layers import class_named, classes, require_layer
from qfx.file.malformed import MalformedError
from qfx.file.nodes import is_member
from qfx.file.values import Reader, Writer, text

_STORED = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training")
_CONTAINER = "torch.nn.Module"


def write_state(writer: Writer, module: nn.Module, left_out: tuple[str, ...] = ()) -> Any:
    """The members of ``module`` as pickle would take them.

    Raises:
        ConversionError: A member that no file holds, or a hook.
    """
    state: Any = module.__reduce_ex__(2)[2]
    baseline = vars(nn.Module())
    hooks = [name for name in baseline if name not in _STORED and state.get(name)]
    before = writer.what
    if hooks:
        writer.refuse(f"a hook in {hooks[0]}")
    kept = {}
    for name in sorted(state, key=lambda name: (name not in _STORED, name)):  # one file for equal models
        value = state[name]
        if name not in left_out and (name in _STORED or name not in baseline):
            writer.what = before if name in _STORED else f"The attribute {name!r} of {before[0].lower()}{before[1:]}"
            kept[name] = _write_children(writer, value) if name == "_modules" else writer.encode(value)
    writer.what = before
    return kept


def _write_children(writer: Writer, children: dict[str, nn.Module | None]) -> Any:
    before, pairs = writer.path, []
    for name, child in children.items():
        writer.path = f"{before}.{name}".lstrip(".")
        writer.what = f"Module {writer.path!r}"
        pairs.append([name, writer.encode(child)])
    writer.path = before
    return {"dict": pairs}


def read_state(reader: Reader, content: Any) -> dict[str, Any]:
    """The members of a module.

    Raises:
        MalformedError: They are malformed.
    """
    if not isinstance(content, dict) or not all(is_member(name) for name in content):
        raise MalformedError("The members of a module are malformed.")
    state = {name: _read_member(reader, name, value) for name, value in content.items()}
    holds = {
        "_parameters": (nn.Parameter, type(None)),
        "_buffers": (Tensor, type(None)),
        "_modules": (nn.Module, type(None)),
    }
    for name, types in holds.items():
        members = state.setdefault(name, {})
        if not isinstance(members, dict) or not all(map(is_member, members)):
            raise MalformedError(f"{name} of a module is malformed: {list(members)!r}.", path=reader.path)
        if not all(isinstance(value, types) for value in members.values()):
            raise MalformedError(f"{name} of a module holds something else.", path=reader.path)
    fixed = [name for name in vars(nn.Module()) if name in state and name not in _STORED]
    non_persistent = state.setdefault("_non_persistent_buffers_set", set())
    if fixed or not isinstance(non_persistent, set) or type(state.setdefault("training", False)) is not bool:
        raise MalformedError("The members of a module are malformed.", path=reader.path)
    return state


def _read_member(reader: Reader, name: str, content: Any) -> Any:
    """A member; children know their paths while they are read."""
    pairs = content.get("dict") if name == "_modules" and isinstance(content, dict) else None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return reader.decode(content)
    before, children = reader.path, {}
    for key, child in pairs:
        reader.path = f"{before}.{key}".lstrip(".")
        children[text(key)] = reader.decode(child)
    reader.path = before
    return children


def write_module(writer: Writer, module: nn.Module) -> list[Any]:
    """The content of the kind ``module``.

    Raises:
        ConversionError: It is of a user's own class.
    """
    name = next((name for name, cls in classes().items() if type(module) is cls), None)
    if name is None:
        cls = type(module)
        raise ConversionError(
            f"{cls.__module__}.{cls.__qualname__}, which runs as it is in the model, can't be stored in a .qfx file.",
            where=writer.path or None,
            why="A file brings no code, so it holds modules of torch.nn only; this one could not be traced, or holds "
            "one of its own.",
            remedy="If you quantized without example inputs, pass some: export takes more models apart. Or rewrite its "
            "forward so that it traces (the report says what stands against it), and quantize again; or "
            "torch.save(model, path) the whole model, and load that only where you trust the file.",
        )
    return [name, write_state(writer, module)]


def read_module(reader: Reader, content: Any) -> Any:
    """The module of its content.

    Raises:
        MalformedError: It is malformed, or of a class that no file may name.
    """
    name, state = content
    cls = class_named(text(name))
    if cls is None:
        raise MalformedError(f"The file names {name!r}, which is no module that a model may hold.", path=reader.path)
    module: Any = cls.__new__(cls)
    nn.Module.__init__(module)
    members = read_state(reader, state)
    if cls is nn.Module and not all(isinstance(v, Tensor) for k, v in members.items() if k not in _STORED):
        raise MalformedError("A part of the module tree holds something else than tensors.")
    module.__setstate__(members)
    require_layer(module, reader.path)
    return module
