"""What a file holds, told by its content: nothing in it is executed or believed."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from enum import Enum
from pathlib import Path

from qfx.errors import InputError

_HEAD = 4096


class Content(Enum):
    """What a file holds, in words for an error."""

    qfx = "a quantized model of qfx"
    exported = "an exported program"
    torchscript = "a TorchScript model"
    weights = "tensors without a model, such as a state_dict"
    pickled = "pickled Python objects, such as a whole model"
    npz = "arrays (.npz)"
    npy = "an array (.npy)"
    onnx = "an ONNX model"
    safetensors = "weights (safetensors)"
    python = "Python source"
    empty = "nothing"
    broken = "a truncated or damaged archive"
    unknown = "something else"


def content_of(path: Path) -> Content:
    """What the file at ``path`` holds.

    Raises:
        InputError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(b"PK"):
            return _archive(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} can't be read.", why=f"{error}.", remedy="Check the path.") from error
    return _by_head(path, head)


def _by_head(path: Path, head: bytes) -> Content:
    from qfx.file.container import MAGIC

    if not head:
        return Content.empty
    for magic, content in ((MAGIC, Content.qfx), (b"\x93NUMPY", Content.npy)):
        if head.startswith(magic):
            return content
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Content.pickled  # of torch before 1.6, or another pickle
    if head[8:9] == b"{" and b'"dtype"' in head:
        return Content.safetensors
    suffixes = {".onnx": Content.onnx, ".py": Content.python}
    return suffixes.get(path.suffix, Content.unknown)


def _archive(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            inner = {name.split("/", 1)[-1] for name in names}
            if "archive_format" in inner or "serialized_exported_program.json" in inner:
                return Content.exported
            if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
                return Content.torchscript
            pickle = next((name for name in names if name.split("/", 1)[-1] == "data.pkl"), None)
            if pickle is not None:
                return _pickle(archive.read(pickle))
            return Content.npz if names and all(name.endswith(".npy") for name in names) else Content.unknown
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, LookupError, ValueError):
        return Content.broken


_PLAIN = ("collections OrderedDict", "torch._utils ", "torch ", "torch._tensor ", "torch.nn.parameter ")


def _pickle(data: bytes) -> Content:
    """Tensors alone, or objects of classes; the pickle is read, not run."""
    strings: list[str] = []
    try:
        for op, argument, _ in pickletools.genops(data):
            if op.name == "GLOBAL" and not str(argument).startswith(_PLAIN):
                return Content.pickled
            if op.name == "STACK_GLOBAL" and not " ".join(strings[-2:]).startswith(_PLAIN):
                return Content.pickled
            if isinstance(argument, str) and op.name.endswith("UNICODE"):
                strings.append(argument)
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return Content.broken
    return Content.weights
