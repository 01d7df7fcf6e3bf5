"""A plain module to TorchScript: scripted, or traced where it can't be."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from qfx.errors import CaptureError
from qfx.frontends.dependence import Example, changes_that_matter
from qfx.frontends.places import told
from qfx.frontends.source import changing_line, error_source
from qfx.frontends.state import Snapshot


def script(model: nn.Module, example: Example | None) -> tuple[torch.jit.ScriptModule, str]:
    """``model``, in evaluation mode, as TorchScript, and in words how it became that.

    Raises:
        CaptureError: It can be neither scripted nor traced.
    """
    try:
        with _without_deprecations(), torch.no_grad():
            return torch.jit.script(model), "scripted by torch.jit.script"
    except Exception as error:
        refused = error
    why = _first_line(refused)
    if example is None:
        raise CaptureError(
            f"{type(model).__name__} can't be scripted.",
            source=error_source(refused),
            why=why,
            remedy="Pass example_inputs, with which it is traced instead; pass a module that you scripted or traced; or"
            ' use frontend="symbolic".',
        ) from refused
    before = Snapshot(model)
    try:
        with _without_deprecations(tracing=True), torch.no_grad():
            trace: Any = torch.jit.trace
            traced: Any = trace(model, example[0], example_kwarg_inputs=dict(example[1]) or None, check_trace=False)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} can be neither scripted nor traced.",
            source=error_source(error),
            why=f"script: {why}; trace: {_first_line(error)}",
            remedy='Use frontend="symbolic", which leaves in float what it is not able to capture.',
        ) from error
    finally:
        before.restore()
    changed = changes_that_matter(model, before, example)
    if changed:
        raise CaptureError(
            f"{type(model).__name__} can be neither scripted nor traced.",
            where=changed[0].owner or "the model itself",
            source=changing_line(model.get_submodule(changed[0].owner), changed[0].attribute),
            why=f"script: {why}; trace: {told(changed)} not the same after a call, which a trace leaves out",
            remedy='Use frontend="symbolic", which leaves in float what it is not able to capture.',
        )
    return (
        traced,
        f"traced by torch.jit.trace, for inputs like the examples, because torch.jit.script refused it ({why})",
    )


@contextmanager
def _without_deprecations(*, tracing: bool = False) -> Iterator[None]:
    """No notices of torch that TorchScript is deprecated, or that a trace fixes values; the user's warnings pass.

    The reason that :func:`script` gives says that the graph is a trace.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`?torch\.jit\.", DeprecationWarning)
        if tracing:
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
