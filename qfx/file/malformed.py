"""What the parts of a reader raise."""

from __future__ import annotations


class MalformedError(ValueError):
    """A part of a file says what no version of qfx wrote; :func:`qfx.load` names the file and says what to do."""
