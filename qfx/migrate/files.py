"""Which files are read."""

from __future__ import annotations

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
