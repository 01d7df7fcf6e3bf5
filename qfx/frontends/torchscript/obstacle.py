"""What stops a translation, in the user's terms."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Obstacle(Exception):
    """Code that a graph of values can't hold.

    Attributes:
        construct: What the code does.
        remedy: The beginning of what to do instead; ends in "or".
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


BRANCH = "Move the decision to __init__, compute both sides and blend them with torch.where, or"
LOOP = "Loop over a number that is known in __init__, or"
NUMBER = "Compute it from constants known in __init__, or"
REWRITE = "Rewrite this line with torch functions on tensors, or"
EVAL = "Call model.eval() before torch.jit.trace, or"
