"""Names that can stand in the Python code that a graph becomes."""

from __future__ import annotations

import keyword
import unicodedata


def stands_in_code(name: str) -> bool:
    """Whether a member of a module can have the name ``name`` in the code that torch.fx writes.

    It writes a name that is an identifier as it is, and any other between quotation marks, without an escape.
    """
    if name.isidentifier():
        return not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    return bool(name) and name.isprintable() and not any(c in '"\\' for c in name)
