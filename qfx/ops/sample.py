"""One sample call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """One call of an op: what the table's tests run it on.

    Attributes:
        args: Positional arguments: float32 tensors, None, lists of tensors, shapes.
        kwargs: Keyword arguments.
        error: For a bad sample, the exception that the float reference raises.
        match: For a bad sample, a regular expression that the message matches.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    error: type[Exception] | None = None
    match: str = ""


Samples: TypeAlias = Callable[[], list[Sample]]


def call(*args: Any, **kwargs: Any) -> Sample:
    """A sample that succeeds."""
    return Sample(args, kwargs)


def refused(error: type[Exception], match: str, *args: Any, **kwargs: Any) -> Sample:
    """A sample that raises ``error`` with a message that matches."""
    return Sample(args, kwargs, error, match)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float32 values, always the same for a shape and seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
