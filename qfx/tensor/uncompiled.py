"""What ``torch.compile`` leaves alone, as code that makes or takes QTensors, whose parameters no graph of it can hold.

Around such a call it breaks the graph, and the call runs as always; where it must not break graphs, it says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

_frames: Any = torch._C._dynamo.eval_frame
_SKIP = _frames._FrameExecStrategy(_frames._FrameAction.SKIP, _frames._FrameAction.SKIP)
_WHY = (
    "a QTensor's scale and zero point can't be part of a recorded graph. Record what qfx.quantize_fx makes of the "
    "model, or compile without fullgraph=True"
)


def uncompiled(function: Function, why: str = _WHY) -> Function:
    """Decorator: neither ``function`` nor what it calls is compiled or recorded; ``why``, if graphs must not break."""
    plain: Any = getattr(function, "__func__", getattr(function, "fget", function))
    if hasattr(plain, "__code__"):
        plain._torchdynamo_disable, plain._torchdynamo_disable_recursive = True, True
        plain._torchdynamo_disable_msg = why
        _frames.set_code_exec_strategy(plain.__code__, _SKIP)
    return function


def uncompiled_members(owner: type) -> None:
    """:func:`uncompiled` for every function that a class itself defines."""
    for member in vars(owner).values():
        uncompiled(member)
