"""Reading the files, and replacing them whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def python_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files among ``paths``, and every ``*.py`` below the folders among them, each once."""
    seen: set[Path] = set()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def replace(path: Path, text: bytes) -> None:
    """Put ``text`` in the place of the file at ``path``, in one step; its mode stays, and so does a link to it.

    Raises:
        OSError: The file is as it was.
    """
    target = path.resolve()
    mode = target.stat().st_mode
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
