"""Files that are no ``.qfx`` files: those of ``torch.save``, and everything else, told by their first bytes."""

from __future__ import annotations

import pickle
from typing import Any

from qfx.errors import InputError, QfxError
from qfx.tensor import files as tensor_files

_OF_TORCH = (b"PK\x03\x04", b"\x80")
"""How the files of ``torch.save`` begin: zip files, and pickles of older versions."""
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip: decompress it first"),
    (b"\xfd7zXZ", "xz: decompress it first"),
    (b"BZh", "bzip2: decompress it first"),
    (b"\x93NUMPY", "a numpy array: read it with numpy.load"),
    (b"GGUF", "GGUF, which qfx does not read"),
    (b"\x89HDF", "HDF5, which qfx does not read"),
    (b"\x89QFX", "a .qfx file that was changed on its way, as by a transfer as text: copy it again as binary"),
    (b"<", "a page of the web: download the file itself"),
    (b"version https://git-lfs", "a pointer of git-lfs: fetch the file itself with git lfs pull"),
)


def load_other(file: Any, where: str, start: bytes, *, weights_only: bool) -> Any:
    """What ``torch.save`` wrote to a file.

    Args:
        file: Open for reading, at its beginning.
        where: What errors call it.
        start: Its first bytes.
        weights_only: As :func:`qfx.load`.

    Raises:
        InputError: It is of another format, damaged, or holds objects that ``weights_only`` keeps out.
    """
    if not start.startswith(_OF_TORCH):
        found = next((what for head, what in _KINDS if head.startswith(start[: len(head)]) and start), None)
        raise InputError(
            f"{where} is {'empty' if not start else 'no file of qfx.save or torch.save'}.",
            why=f"It looks like {found}." if found else None,
            remedy="Give a file that qfx.save or torch.save wrote.",
        )
    try:
        return tensor_files.load(file, weights_only=weights_only)
    except QfxError as error:
        raise InputError(
            f"{where} holds numbers that make no sense.", why=error.what, remedy=error.remedy or "Save it again."
        ) from error
    except Exception as error:
        raise _unreadable(where, error, weights_only) from error


def _unreadable(where: str, error: Exception, weights_only: bool) -> InputError:
    first = (str(error).strip().splitlines() or [""])[0]
    if weights_only and isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
        return InputError(
            f"{where} holds more than tensors and plain containers, or is damaged.",
            why="Whole modules are Python objects, and loading them runs code of the file.",
            remedy="If you trust the file, pass weights_only=False; else save a quantized model with qfx.save, or the "
            "state_dict.",
        )
    return InputError(
        f"{where} can't be read: it is damaged"
        f"{'' if weights_only else ', or holds an object of a class that is not here'}.",
        why=f"{type(error).__name__}: {first}",
        remedy="Copy or save it again"
        f"{'.' if weights_only else ', and import the modules of its classes before loading it.'}",
    )
