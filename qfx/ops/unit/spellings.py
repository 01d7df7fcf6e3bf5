"""Spellings of scaling to length one."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from qfx.ops.spelling import Alias, aliases, is_number, require, require_tensor
from qfx.ops.terms import Term, term


def normalize(input: Any, p: Any = 2.0, dim: Any = 1, eps: Any = 1e-12, out: Any = None) -> Term:
    """``F.normalize``."""
    require_tensor(input)
    require(is_number(p) and p == 2, "its norm is not the Euclidean one")
    require(isinstance(dim, int) and is_number(eps), "its dim or eps is not a constant number")
    require(out is None, "it writes into a tensor of the caller")
    return term("l2_normalize", input, dim=dim, eps=float(eps))


ALIASES: tuple[Alias, ...] = (*aliases("l2_normalize", normalize, functions=[F.normalize]),)
