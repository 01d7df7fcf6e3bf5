"""What stops a symbolic trace, in the user's terms: the construct and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Obstacle:
    """One row: the tracer's error message, the construct behind it, the remedy."""

    message: str
    construct: str
    remedy: str


_BRANCH = "Move the decision to __init__, compute both sides and blend them with torch.where, or"
OBSTACLES = (
    Obstacle("'len' is not supported", "len() of a traced value", "Use x.shape[0], or a length known in __init__, or"),
    Obstacle("cannot be iterated", "iteration over a traced value", "Index it with constants, or use unbind, or"),
    Obstacle("item assignment", "assignment into a tensor, x[i] = y", "Build the result with torch.cat or where, or"),
    Obstacle("can't be used with Python's|__index__|interpreted as an integer|argument must be .*, not .*Proxy",
             "a Python number made from a traced value", "Compute it from constants known in __init__, or"),
    Obstacle("argument after \\*\\*? must be", "a call that unpacks a traced value", "Pass the items one by one, or"),
    Obstacle("control flow", "control flow that depends on a tensor's values or shape", _BRANCH),
)  # fmt: skip
_OTHER = Obstacle("", "code that can't run on traced values", "Rewrite this line with torch functions on tensors, or")


def explain(error: BaseException) -> tuple[str, str]:
    """The construct that ``error`` is about with torch's own message, and the beginning of a remedy (ends in "or")."""
    text = str(error)
    row = next((row for row in OBSTACLES if re.search(row.message, text)), _OTHER)
    first_line = text.strip().splitlines()[0] if text.strip() else ""
    return f"{row.construct} ({type(error).__name__}: {first_line})", row.remedy
