"""What the parts of a reader raise."""

from __future__ import annotations

from typing import NoReturn

from qfx.errors import QfxError


class MalformedError(ValueError):
    """A part of a file says what no version of qfx wrote; :func:`qfx.load` names the file and says what to do.

    Attributes:
        node: The name of the graph's node that it is about, where it is about one.
        path: The path of the module that it is about, where it is about one.
    """

    def __init__(self, text: str, node: str | None = None, path: str | None = None) -> None:
        super().__init__(text)
        self.node, self.path = node, path


class OtherProgramError(MalformedError):
    """The bytes of a program that this version of qfx does not read."""


def no_constant(name: str) -> NoReturn:
    """What JSON makes of ``NaN`` and ``Infinity``."""
    raise MalformedError(f"{name} is no number of a file.")


def reason(error: Exception) -> str:
    """What an error says, as the reason of another."""
    if isinstance(error, QfxError):
        return error.what
    return str(error) if isinstance(error, MalformedError) else f"{type(error).__name__}: {str(error).splitlines()[:1]}"
