"""How far a long call is, on a terminal, and how long it may take."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from qfx.errors import InputError


def bar(data: Iterable[Any] | None, what: str, unit: str, *, total: int | None = None, shown: bool = True) -> Any:
    """A progress bar on stderr over ``data``; silent where stderr is no terminal.

    Args:
        data: What to iterate over, or None where ``update()`` is called.
        what: Its label.
        unit: What is counted.
        total: How many there are; the length of ``data`` when left out.
        shown: False for silence everywhere.
    """
    known = length(data) if total is None and data is not None else total
    return tqdm(data, desc=what, unit=unit, total=known, disable=None if shown else True, leave=False)


def length(data: Any) -> int | None:
    """How many elements ``data`` says that it has; None where it does not."""
    try:
        known = operator.length_hint(data, 0)
    except Exception:  # a DataLoader whose dataset has no length, and whatever a user's __len__ raises
        return None
    return known or None


class Budget:
    """Seconds that a call may take, from when this is made.

    Args:
        seconds: How many; None for as long as it takes.

    Raises:
        InputError: It is no number of seconds.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0
        ):
            raise InputError(f"budget={seconds!r} is no number of seconds.", remedy="Pass seconds, such as budget=60.")
        self.seconds, self._start = seconds, time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether the time is over."""
        return self.seconds is not None and time.monotonic() - self._start >= self.seconds
