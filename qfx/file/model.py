"""``qfx.save`` and ``qfx.load``.

Functions here import what they need of the compiler, so that a model of programs loads without it.
"""

from __future__ import annotations

import io
import mmap as memory_map
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qfx.arguments import explained
from qfx.errors import InputError, QfxError, RuntimeLoadError
from qfx.file.atomic import replacing
from qfx.file.container import MAGIC, unpack
from qfx.file.malformed import OtherProgramError, reason
from qfx.file.program import read_call
from qfx.file.sections import CALL, GRAPH, KNOWN, PARTS, PROGRAM, SERVING, TENSORS
from qfx.logs import logger
from qfx.models import QuantizedModel

_log = logger(__name__)

_NEEDED = (
    (CALL, (PROGRAM,)),
    (PARTS, (PROGRAM,)),
    (PARTS, (TENSORS,)),
    (PROGRAM, (CALL, PARTS)),
    (SERVING, (CALL,)),
    (GRAPH, (TENSORS,)),
    (TENSORS, (GRAPH, PARTS)),
)
"""Sections, and what there must be one of beside each."""
_HEAD = 32
"""Bytes by which files are told apart."""


@explained
def save(
    obj: Any,
    file: Any,
    *,
    graph: bool = True,
    serving: bool = False,
    metadata: Mapping[str, Any] | None = None,
    packed_for: Sequence[str] = (),
) -> None:
    """Write ``obj`` to a file, from which :func:`load` gives it back.

    A :class:`~qfx.models.QuantizedModel` becomes a ``.qfx`` file: versioned, with checksums, without pickle, about as
    large as its int8 weights. It holds the QDQ graph and the programs that it was compiled to, which load without
    compiling anything. Anything else is written by ``torch.save``: QTensors (their integers in their own
    dtype), state_dicts, modules, and containers of them.

    Args:
        obj: What to save.
        file: A path, which is replaced in one step or left as it was, or a writable binary file.
        graph: False stores a quantized model's programs alone, with what torch runs between them: the model that is
            loaded runs, and has no graph, report or state_dict.
        serving: Refuse a quantized model that :func:`qfx.runtime.load` could not run without torch, and say why. Files
            of all others can be loaded there, whether this is set or not.
        metadata: What the file of a quantized model says beside it: a dict of what JSON has. ``"labels"`` (names of
            classes) and ``"preprocessing"`` (such as ``{"mean": [...], "scale": [...], "size": [224, 224]}``) are read
            by name; all of it comes back as ``qfx.runtime.load(file).metadata``. None: what the model came with.
        packed_for: Instruction sets (``"avx512vnni"``) for whose kernels the weights are stored too, as they want them:
            :func:`qfx.runtime.load` packs nothing there, and processes that map the file share it all. The model must
            be for serving; the file grows by the size of its weights for each.

    Raises:
        ConversionError: The quantized model holds what a file can't hold safely, such as a module of a user's own
            class that could not be traced; it is named. Or it is to be stored without its graph, and has no program;
            or for serving, and torch runs a part of it.
        InputError: The path can't be written.
    """
    write = _writer_of(obj, {"graph": graph, "serving": serving, "metadata": metadata, "packed_for": packed_for})
    if callable(getattr(file, "write", None)):
        if getattr(file, "closed", False) is True:
            raise InputError("The file is closed.", remedy="Give one that is open in binary mode.")
        write(obj, file)
        return
    with replacing(_path(file)) as part, part.open("wb") as opened:
        write(obj, opened)


def _writer_of(obj: Any, options: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    if isinstance(obj, QuantizedModel):
        from qfx.file.qdq import to_bytes

        return lambda model, file: file.write(to_bytes(model, **options))
    from qfx.tensor import files

    return files.save


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

    The programs of a model are loaded, and nothing is compiled (unless another version of qfx wrote them in a form that
    this one does not read, which is logged). Its graph, tensors and report are read when something asks for them; the
    file stays open until then, so that replacing it is no problem.

    Args:
        file: A path or a readable binary file.
        weights_only: For other files than ``.qfx``: accept tensors and plain containers only. False loads whole
            modules, and runs whatever code the file brings: pass it for files that you trust.
        isa: For a ``.qfx`` file: load for this instruction set instead of the best one here.
        mmap: For a ``.qfx`` file at a path: map it instead of reading it. Nobody may cut the file short as long as the
            model lives; replacing it, as :func:`save` does, is no problem.

    Raises:
        InputError: The file can't be read, or is damaged, of another version, or no model that makes sense. Asking for
            the graph raises it too, where that makes no sense or the file was written over.
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
            from qfx.file.foreign import load_other

            return load_other(opened, where, start, weights_only=weights_only)
        if at_path and not mmap:
            kept = _Kept(opened)
            return from_memory(kept.content(where), where, isa, lambda: kept.content(where))
        return from_memory(_contents(opened, mmap and at_path), where, isa)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    try:
        if path.exists() and not path.is_file():
            kind = "folder" if path.is_dir() else "pipe or a device"
            raise InputError(f"{where} can't be read.", why=f"It is a {kind}, not a file.", remedy="Check the path.")
        with path.open("rb") as file:
            yield file
    except QfxError:
        raise
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


class _Kept:
    """An open file, from which a model is read once more when somebody asks for its graph.

    Args:
        file: Open, at its start.
    """

    def __init__(self, file: Any) -> None:
        self._number = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._number)
        self._before: bytes | None = None

    def content(self, where: str) -> memoryview:
        """Writable memory, aligned for programs, with the whole file.

        Raises:
            InputError: It is not the file that it was.
        """
        size = os.fstat(self._number).st_size
        content = memoryview(memory_map.mmap(-1, max(size, 1)))[:size]
        done = 0
        while done < size:
            count = os.preadv(self._number, [content[done:]], done)
            if count == 0:
                break
            done += count
        head = bytes(content[:_HEAD])
        if done < size or self._before not in (None, head):
            raise InputError(
                f"{where} was written over while a model of it was in use.",
                why="The graph of a model is read when something asks for it first.",
                remedy="Replace files in one step, as qfx.save does; or ask for model.graph right after loading.",
            )
        self._before = head
        return content


def from_memory(
    file: memoryview, where: str, isa: str | None = None, again: Callable[[], memoryview] | None = None
) -> QuantizedModel:
    """The model of a ``.qfx`` file.

    Args:
        file: The whole file, in writable memory that nobody else writes to.
        where: What errors call it.
        isa: As :func:`load`.
        again: Gives the file once more, so that it need not be kept.

    Raises:
        InputError, RuntimeLoadError: As :func:`load`.
    """
    sections = _sections(file, where)
    if PROGRAM not in sections:
        return _read_graph(sections, where, isa, compiled=True)
    read = _again(sections) if again is None else lambda: _sections(again(), where)
    try:
        with _sense(where):
            unread = read_call(sections, isa, lambda: _read_graph(read(), where, isa, compiled=False))
    except OtherProgramError as error:
        if GRAPH not in sections:
            raise _senseless(where, error) from error
        _log.warning("%s holds a program that this qfx does not read (%s); its graph is compiled", where, error)
        return _read_graph(sections, where, isa, compiled=True)
    return QuantizedModel.of_file(unread, isa)


def _again(sections: Mapping[str, memoryview]) -> Callable[[], Mapping[str, memoryview]]:
    return lambda: sections


def _sections(file: memoryview, where: str) -> dict[str, memoryview]:
    sections = unpack(file, where, KNOWN, ())
    for one, others in _NEEDED:
        if one in sections and not any(other in sections for other in others):
            missing = " or ".join(map(repr, others))
            raise InputError(f"{where} is damaged.", why=f"It has no section {missing}.", remedy="Save it again.")
    if CALL in sections and PARTS in sections:
        raise InputError(f"{where} is damaged.", why="It says twice how it is called.", remedy="Save it again.")
    if not sections:
        raise InputError(f"{where} holds no model.", remedy="Save it again.")
    return sections


def _read_graph(sections: Mapping[str, memoryview], where: str, isa: str | None, *, compiled: bool) -> QuantizedModel:
    if GRAPH not in sections:
        raise InputError(
            f"{where} holds the program of a model alone.",
            why="It was saved with graph=False: the model runs, and has no graph, report or state_dict.",
            remedy="Save the quantized model with qfx.save(model, path).",
        )
    from qfx.file.qdq import read_model

    with _sense(where):
        return read_model(sections, isa, compiled=compiled)


@contextmanager
def _sense(where: str) -> Iterator[None]:
    """Tell whatever a part of a file raises as an error of the file, but for what callers look at."""
    try:
        yield
    except (RuntimeLoadError, OtherProgramError):
        raise
    except Exception as error:
        raise _senseless(where, error) from error


def _senseless(where: str, error: Exception) -> InputError:
    """A file whose checksums match and that no version of qfx wrote, or one that this version does not understand."""
    remedy = error.remedy if isinstance(error, QfxError) and error.remedy else "Save the model again with qfx.save."
    return InputError(f"{where} holds no model that makes sense.", why=reason(error), remedy=remedy)
