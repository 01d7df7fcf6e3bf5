"""register_op: a function of one value from outside the package as an op of its own, in every mode."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from qfx.arguments import checked
from qfx.errors import UnsupportedError, shown
from qfx.lowering.emit import emits
from qfx.lowering.emitters.compute import pointwise as emit_table
from qfx.ops.pointwise.float32 import rounded
from qfx.ops.pointwise.integer import pointwise as integer_pointwise
from qfx.ops.sample import Sample
from qfx.ops.spelling import finite, require_tensor
from qfx.ops.spellings import Alias, alias_of, register_alias
from qfx.ops.table import Op, register
from qfx.ops.terms import Term

Function = TypeVar("Function", bound=Callable[..., Tensor])


@checked
def register_op(
    pointwise: Callable[..., Any], *, modules: Mapping[type[nn.Module], Iterable[str]] | None = None
) -> Callable[[Function], Function]:
    """Decorator: make ``fn(x, *, ...)`` on float tensors an op, which int8 models compute by an exact table.

    Graph mode keeps a call of the decorated function as one op and quantizes it with its own observer.
    :func:`qfx.eager.run_op` runs it on QTensors. ``qfx.nn.quantized.quantized_layer`` makes the quantized version of a
    module in ``modules``, for the mapping of prepare and convert.

    Args:
        pointwise: The same function of a numpy float64 array, with the same keyword arguments.
        modules: Module classes that compute it, each with the names of the attributes that are its keyword arguments.

    Raises:
        UnsupportedError: The function's name or a module class is taken, it is no function at the top of a module, or
            its parameters are not one tensor and then keyword-only numbers. Nothing is registered then.
    """

    def decorate(fn: Function) -> Function:
        _require_one_operand(fn)
        _require_free(fn.__name__, modules or {})

        @functools.wraps(fn)
        def op_fn(x: Tensor, **attributes: Any) -> Any:
            if has_torch_function_unary(x):
                return handle_torch_function(op_fn, (x,), x, **attributes)
            return fn(x, **attributes)

        name = fn.__name__
        integer = partial(integer_pointwise, pointwise, rounded(pointwise))
        row = Op(
            name,
            op_fn,
            ("x",),
            "own",
            integer=integer,
            pointwise=pointwise,
            family="lookup",
            samples=partial(_samples, fn),
        )
        register(row)
        emits(name)(emit_table)
        register_alias(Alias(name, op_fn, partial(_rule, name, fn)))
        for module, attributes in (modules or {}).items():
            register_alias(Alias(name, module, partial(_rule, name, fn), tuple(attributes)))
        return op_fn  # type: ignore[return-value]

    return decorate


def _rule(name: str, fn: Callable[..., Any], *args: Any, **attributes: Any) -> Term:
    bound = inspect.signature(fn).bind(*args, **attributes)
    bound.apply_defaults()
    (x,) = bound.args
    require_tensor(x)
    return Term(name, (x,), {key: finite(value) for key, value in bound.kwargs.items()})


def _samples(fn: Callable[..., Any]) -> list[Sample]:
    """One call with the function's defaults, where every keyword argument has one."""
    optional = all(p.default is not p.empty for p in list(inspect.signature(fn).parameters.values())[1:])
    return [Sample((torch.linspace(-4.0, 4.0, 97),))] if optional else []


def _require_free(name: str, modules: Iterable[type[nn.Module]]) -> None:
    for module in modules:
        taken = alias_of(module)
        if taken is not None:
            raise UnsupportedError(
                f"{module.__name__} can't compute {name!r}: it is known to compute {taken.op!r}.",
                remedy="Give a module class of your own.",
            )


def _require_one_operand(fn: Callable[..., Any]) -> None:
    if not inspect.isfunction(fn):
        raise UnsupportedError(f"{shown(fn)} is no function.", remedy="Decorate a function at the top of a module.")
    first, *rest = [p.kind for p in inspect.signature(fn).parameters.values()] or [inspect.Parameter.KEYWORD_ONLY]
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    if first not in positional or any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in rest):
        raise UnsupportedError(
            f"{fn.__name__}{inspect.signature(fn)} can't be registered as an op.",
            why="An op of one's own is a function of one value: a tensor, and then numbers by keyword.",
            remedy="Write def f(x, *, alpha=1.0); several tensors are for a module with a mapping.",
        )
