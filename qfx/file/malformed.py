"""What the parts of a reader raise."""

from __future__ import annotations


class MalformedError(ValueError):
    """A part of a file says what no version of qfx wrote; :func:`qfx.load` names the file and says what to do.

    Attributes:
        node: The name of the graph's node that it is about, where it is about one.
        path: The path of the module that it is about, where it is about one.
    """

    def __init__(self, text: str, node: str | None = None, path: str | None = None) -> None:
        super().__init__(text)
        self.node, self.path = node, path
