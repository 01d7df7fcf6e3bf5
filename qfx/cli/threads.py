"""How many threads a command uses."""

from __future__ import annotations

import torch

import qfx


def use_threads(count: int | None) -> int:
    """Let torch and qfx use ``count`` threads, or as many as they choose where it is None, and return the number."""
    if count is not None:
        torch.set_num_threads(count)
        qfx.set_num_threads(count)
    return qfx.get_num_threads()
