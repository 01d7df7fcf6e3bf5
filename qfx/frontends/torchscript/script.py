"""A plain module to TorchScript: scripted, or traced where it can't be."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from qfx.errors import CaptureError
from qfx.frontends.defaults import Example, by_name, distinct
from qfx.frontends.dependence import changes_that_matter
from qfx.frontends.places import told
from qfx.frontends.source import changing_line, error_source
from qfx.frontends.state import Snapshot
from qfx.frontends.torchscript.conversions import Conversions


def script(model: nn.Module, example: Example | None) -> tuple[torch.jit.ScriptModule, str, bool]:
    """``model``, in evaluation mode, as TorchScript, in words how it became that, and whether sizes are fixed by it.

    Raises:
        CaptureError: It can be neither scripted nor traced.
    """
    try:
        with _without_deprecations(), torch.no_grad():
            _require_plain_calls(model)
            scripted = torch.jit.script(model)
            _require_annotations(scripted)
            return scripted, "scripted by torch.jit.script", False
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
        noted = Conversions()
        with _without_deprecations(tracing=True), torch.no_grad(), noted:
            trace: Any = torch.jit.trace
            example = distinct(example)
            named = by_name(inspect.signature(model.forward).parameters, example) if example[1] else None
            args = example[0] if named is None else None  # torch takes one or the other
            traced: Any = trace(model, args, example_kwarg_inputs=named, check_trace=False)
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
        noted.sizes,
    )


def _require_plain_calls(model: nn.Module) -> None:
    """Raise for a class with a ``__call__`` of its own, of which TorchScript compiles the ``forward`` only."""
    for module in model.modules():
        if type(module).__call__ is not nn.Module.__call__:
            raise TypeError(f"{type(module).__name__} has a __call__ of its own")


def _require_annotations(scripted: torch.jit.ScriptModule) -> None:
    """Raise for an argument that is None by default and that TorchScript, without an annotation, takes for a tensor."""
    for argument in scripted._c._get_method("forward").schema.arguments[1:]:
        if argument.has_default_value() and argument.default_value is None and str(argument.type) == "Tensor":
            raise TypeError(f"the argument {argument.name!r} is None by default, and not annotated as optional")


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
