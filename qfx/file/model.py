"""``qfx.save`` and ``qfx.load``."""

from __future__ import annotations

import io
import json
import mmap as memory_map
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from qfx.arguments import explained
from qfx.errors import ConversionError, InputError, QfxError, RuntimeLoadError
from qfx.file.checks import require_sound
from qfx.file.container import MAGIC, Section, pack, unpack
from qfx.file.foreign import load_other
from qfx.file.graph import read_graph, write_graph
from qfx.file.malformed import MalformedError
from qfx.file.modules import read_module, read_state, write_module, write_state
from qfx.file.tensors import TensorWriter, read_tensors
from qfx.file.values import Reader, Writer
from qfx.file.whole import whole
from qfx.models import QuantizedModel
from qfx.tensor import files as tensor_files

_MODEL, _TENSORS = "model", "tensors"
_HEAD = 32
"""Bytes by which files are told apart."""
_NODES = "_nodes"
_NOT_STORED = (_NODES, "_graph", "_generated", "_compiled", "isa", "info")
_INFO_NOT_STORED = ("recovery", "batch_norms", "trainable")
"""Facts of calibration and training, which are over."""


@explained
def save(obj: Any, file: Any) -> None:
    """Write ``obj`` to a file, from which :func:`load` gives it back.

    A :class:`~qfx.models.QuantizedModel` becomes a ``.qfx`` file: versioned, with checksums, without pickle, about as
    large as its int8 weights. Anything else is written by ``torch.save``: QTensors (their integers in their own
    dtype), state_dicts, modules, and containers of them.

    Args:
        obj: What to save.
        file: A path, which is replaced in one step or left as it was, or a writable binary file.

    Raises:
        ConversionError: The quantized model holds what a file can't hold safely, such as a module of a user's own
            class that could not be traced; it is named.
        InputError: The path can't be written.
    """
    write = _write_model if isinstance(obj, QuantizedModel) else tensor_files.save
    if callable(getattr(file, "write", None)):
        if getattr(file, "closed", False) is True:
            raise InputError("The file is closed.", remedy="Give one that is open in binary mode.")
        write(obj, file)
        return
    with whole(_path(file)) as part, part.open("wb") as opened:
        write(obj, opened)


def _write_model(model: QuantizedModel, file: Any) -> None:
    file.write(to_bytes(model))


def _path(file: Any) -> Path:
    """``file`` as a path.

    Raises:
        InputError: It is none.
    """
    if isinstance(file, (str, bytes, os.PathLike)):
        return Path(os.fsdecode(file))
    raise InputError(
        f"The file is {'None' if file is None else f'of type {type(file).__name__}'}.",
        remedy="Give a path, or a file that is open in binary mode.",
    )


@explained
def load(file: Any, *, weights_only: bool = True, isa: str | None = None, mmap: bool = False) -> Any:
    """What :func:`save` wrote.

    A ``.qfx`` file is recognized by its first bytes, whatever its name. Every byte of it is checked before it is used,
    and it can't make Python run anything but the ops of qfx and functions of torch.

    Args:
        file: A path or a readable binary file.
        weights_only: For other files than ``.qfx``: accept tensors and plain containers only. False loads whole
            modules, and runs whatever code the file brings: pass it for files that you trust.
        isa: For a ``.qfx`` file: load for this instruction set instead of the best one here.
        mmap: For a ``.qfx`` file at a path: map it instead of reading it. Nobody may cut the file short as long as the
            model lives; replacing it, as :func:`save` does, is no problem.

    Raises:
        InputError: The file can't be read, or is damaged, of another version, or no model that makes sense.
        RuntimeLoadError: ``isa`` is unknown or not available on this CPU.
    """
    at_path = not callable(getattr(file, "read", None))
    where = repr(str(_path(file))) if at_path else "The file"
    with _opened(_path(file), where) if at_path else _kept(file, where) as opened:
        start = opened.read(_HEAD)
        if not isinstance(start, bytes):
            raise InputError(f"{where} gives {type(start).__name__}, not bytes.", remedy="Open it in binary mode.")
        opened.seek(-len(start), io.SEEK_CUR)
        if not start.startswith(MAGIC):
            return load_other(opened, where, start, weights_only=weights_only)
        return from_memory(_contents(opened, mmap and at_path), where, isa)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    try:
        if path.exists() and not path.is_file():
            kind = "folder" if path.is_dir() else "pipe or a device"
            raise InputError(f"{where} can't be read.", why=f"It is a {kind}, not a file.", remedy="Check the path.")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where} can't be read.", why=f"{reason}.", remedy="Check the path.") from error


@contextmanager
def _kept(file: Any, where: str) -> Iterator[Any]:
    """A file that the caller has open, from where it stands; one that can't go back is read at once."""
    if isinstance(file, io.TextIOBase):
        raise InputError(f"{where} is open as text.", remedy='Open it in binary mode: open(path, "rb").')
    try:
        kept = file if not hasattr(file, "seekable") or file.seekable() else io.BytesIO(file.read())
    except ValueError as error:
        raise InputError(f"{where} can't be read.", why=f"{error}.", remedy="Open it.") from error
    yield kept


def _contents(file: Any, mapped: bool) -> memoryview:
    """Writable memory with what ``file`` holds; changes do not reach it."""
    if mapped:
        return memoryview(memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_COPY))
    return memoryview(bytearray(file.read()))


def to_bytes(model: QuantizedModel) -> bytes:
    """The ``.qfx`` file of a model; equal for equal models. It is read once, so what is written can be loaded.

    Raises:
        ConversionError: As :func:`save`.
    """
    content = _written(model)
    try:
        _read(unpack(memoryview(bytearray(content)), "The file", (_MODEL, _TENSORS)), model.isa)
    except Exception as error:
        raise _unreadable(model, error) from error
    return content


def _written(model: QuantizedModel) -> bytes:
    writer = Writer(TensorWriter(), write_module)
    state = write_state(writer, model, _NOT_STORED)
    writer.what = "The model's info"
    info = writer.encode({key: value for key, value in model.info.items() if key not in _INFO_NOT_STORED})
    graph = write_graph(writer, model.graph)
    content = {"graph": graph, "info": info, "state": state, "tensors": writer.tensors.index}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return pack([Section(_MODEL, text.encode("ascii")), Section(_TENSORS, writer.tensors.content())])


def _unreadable(model: QuantizedModel, error: Exception) -> ConversionError:
    """A model whose file would be refused, told of the node or module that it would be refused for."""
    named = error.node if isinstance(error, MalformedError) else None
    node = next((n for n in model.graph.nodes if n.name == named), None)
    where = error.path if isinstance(error, MalformedError) and error.path else getattr(error, "where", None)
    if node is not None:
        where = node.meta.get("module_path") or node.name
    return ConversionError(
        "The model can't be stored in a .qfx file: loading it would be refused.",
        where=where or None,
        source=node.meta.get("source") if node is not None else None,
        why=_reason(error),
        remedy="Write what is named in other functions of torch, and quantize again; or torch.save(model, path) the "
        "whole model, and load that only where you trust the file.",
    )


def from_memory(file: memoryview, where: str, isa: str | None = None) -> QuantizedModel:
    """The model of a ``.qfx`` file.

    Args:
        file: The whole file, in writable memory that the model keeps and does not write to.
        where: What errors call it.
        isa: As :func:`load`.

    Raises:
        InputError, RuntimeLoadError: As :func:`load`.
    """
    sections = unpack(file, where, (_MODEL, _TENSORS))
    try:
        return _read(sections, isa)
    except Exception as error:
        if isinstance(error, RuntimeLoadError):
            raise
        raise _senseless(where, error) from error


def _read(sections: Mapping[str, memoryview], isa: str | None) -> QuantizedModel:
    """The model of a file's sections, checked."""
    content = json.loads(bytes(sections[_MODEL]), parse_constant=_no_constant)
    reader = Reader(read_tensors(content["tensors"], sections[_TENSORS]), read_module)
    model = _model(reader, content, isa)
    require_sound(model)
    return model


def _model(reader: Reader, content: Any, isa: str | None) -> QuantizedModel:
    model = QuantizedModel.__new__(QuantizedModel)
    nn.Module.__init__(model)
    state = read_state(reader, content["state"])
    graph, info = read_graph(reader, content["graph"]), reader.decode(content["info"])
    model.__setstate__({**state, _NODES: graph, "info": info, "isa": isa})
    return model


def _no_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is no number of a file.")


def _senseless(where: str, error: Exception) -> InputError:
    """A file whose checksums match and that no version of qfx wrote, or one that this version does not understand."""
    remedy = error.remedy if isinstance(error, QfxError) and error.remedy else "Save the model again with qfx.save."
    return InputError(f"{where} holds no model that makes sense.", why=_reason(error), remedy=remedy)


def _reason(error: Exception) -> str:
    if isinstance(error, QfxError):
        return error.what
    return str(error) if isinstance(error, MalformedError) else f"{type(error).__name__}: {str(error).splitlines()[:1]}"
