"""Replacing a file in one step or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qfx.errors import InputError

_PART = ".part"
"""What the name of an unfinished file holds, behind a leading dot and the name that it will have."""
_LONGEST = 120
"""Characters of that name, so that all of it is no longer than names may be."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, in one step.

    Raises:
        InputError: The file can't be written; whatever was at ``path`` is as it was.
    """
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside ``path``, of its suffix, to write to; it becomes ``path`` if the block ends without an error.

    A file that is there keeps its permissions, and its owner where this process may give it away; a new one has those
    that any new file gets. A link stays one, and what it leads to is replaced. Another hard link to the file keeps what
    was there.

    Raises:
        InputError: The file can't be written; whatever was at ``path`` is as it was.
    """
    require_writable(path)
    target = Path(os.path.realpath(path))  # a link stays one
    try:
        before = target.stat() if target.exists() else None
        part = _new_part(target, 0o600 if before else 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        if before is not None:
            _take_over(part, before)
        part.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _new_part(target: Path, mode: int) -> Path:
    """A new, empty file beside ``target``, with ``mode`` as far as the umask lets it."""
    for _ in range(100):
        part = target.with_name(f".{target.stem[:_LONGEST]}.{secrets.token_hex(4)}{_PART}{target.suffix}")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), mode))
            return part
    raise FileExistsError(f"there is no free name beside {target}")


def _take_over(part: Path, before: os.stat_result) -> None:
    """Give ``part`` the owner and the permissions of the file that it replaces."""
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(OSError):
            os.chown(part, before.st_uid, before.st_gid)
    os.chmod(part, stat.S_IMODE(before.st_mode))


def remove_parts(path: Path) -> None:
    """Take away what writers of ``path`` that were killed have left."""
    for part in path.parent.glob(f".{_escaped(path.stem[:_LONGEST])}.*{_PART}{_escaped(path.suffix)}"):
        with contextlib.suppress(OSError):
            part.unlink()


def require_writable(path: Path, *suffixes: str) -> None:
    """Raise early what would be raised after minutes of work.

    Raises:
        InputError: ``path`` has another suffix than ``suffixes``, is no place for a file, or can't be written.
    """
    if suffixes and path.suffix not in suffixes:
        raise InputError(f"OUT is {str(path)!r}.", remedy=f"Name it {' or '.join(suffixes)}.")
    wrong = _wrong(path)
    if wrong:
        raise InputError(f"{str(path)!r} can't be written: {wrong}.", remedy="Give a file in a folder that exists.")


def _wrong(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a folder"
        if os.path.islink(os.path.realpath(path)):
            return "it is a link that leads to itself"
        if path.exists() and not path.is_file():
            return "it is a device or a pipe, not a file"
        if path.exists() and not os.access(path, os.W_OK):
            return "it is read-only"
        parent = Path(os.path.realpath(path)).parent
        if not parent.exists():
            return f"there is no folder {str(path.parent)!r}"
        if not parent.is_dir():
            return f"{str(path.parent)!r} is no folder"
        return None if os.access(parent, os.W_OK | os.X_OK) else f"the folder {str(path.parent)!r} is read-only"
    except (OSError, ValueError) as error:
        return str(error).lower()


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{str(path)!r} can't be written.",
        why=f"{error.strerror or error}.",
        remedy="Give a path in a folder that exists and has room.",
    )
