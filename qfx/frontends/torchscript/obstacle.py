"""What stops a translation, in the user's terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from qfx.frontends.obstacles import rewriting, row_named


@dataclass(eq=False)
class Obstacle(Exception):
    """Code that a graph of values can't hold.

    Attributes:
        construct: What the code does.
        remedy: What to do instead.
        source: The user's line.
        path: The innermost module whose ``forward`` runs it; None while that is not known.
        alone: Whether keeping a module around it in float does not help either.
    """

    construct: str
    remedy: str
    source: str | None = None
    path: str | None = field(default=None)
    alone: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.construct)

    @property
    def reason(self) -> str:
        """Why a module with this code stays float."""
        return f"{self.construct} at {self.source}" if self.source else self.construct


BRANCH, BRANCH_ON_SHAPE, LOOP, NUMBER, IN_PLACE = (
    rewriting(row_named(name)) for name in ("branch", "branch-on-a-shape", "range", "number", "in-place")
)
REWRITE = "Rewrite this line with torch functions on tensors."
FLOAT32 = "Take the branch of float32 out of the condition: a quantized model takes and computes nothing else."
STATE = (
    "Make it an input and an output: let forward take the value of before, return the new one, and pass that to the"
    " next call."
)
EVAL = "Call model.eval() before torch.jit.trace."
