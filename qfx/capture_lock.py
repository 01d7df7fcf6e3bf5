"""One capture at a time: tracing and exporting change torch for the whole process while they run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_CAPTURE = threading.RLock()


@contextlib.contextmanager
def capturing() -> Iterator[None]:
    """While active, no other thread captures a model.

    Models that run in other threads meanwhile are not disturbed, as far as they don't ask whether somebody traces.
    """
    with _CAPTURE:
        yield
