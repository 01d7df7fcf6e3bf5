"""The row of a function of one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from qfx.ir.types import QParams
from qfx.ops.pointwise import integer
from qfx.ops.sample import Sample, Samples, call, normal, refused
from qfx.ops.table import FloatStep, Op, QParamsKind

ROWS: list[Op] = []
"""The rows, in the order of their functions."""

_Fn = TypeVar("_Fn", bound=Callable[..., Any])
_Arguments = Sequence[Mapping[str, Any]]


def function(
    exact: Callable[..., Any],
    *,
    single: Callable[..., Any] | None = None,
    name: str | None = None,
    qparams: QParamsKind = "own",
    fixed: QParams | None = None,
    floats: FloatStep | None = "integer",
    samples: _Arguments = ({},),
    bad: Samples = list,
    positive: bool = False,
    **cells: Any,
) -> Callable[[_Fn], _Fn]:
    """Makes the row of the decorated function.

    Args:
        exact: The same in numpy float64.
        single: The same in numpy float32, as the kernel computes it; ``exact`` on float32 arrays where it is left out.
        name: The op's name, where it is not the function's.
        qparams: As in :class:`qfx.ops.table.Op`.
        fixed: Its parameters, where they are fixed.
        floats: None for a function that ``qfx/kernels/float_ops/pointwise.inc`` does not have: torch computes it where
            its operand is float.
        samples: Its keyword arguments, a set for each sample.
        bad: Calls that must fail, beside one with an argument that no function has.
        positive: Whether it is defined, or has no pole, where its operand is positive only.
        cells: Other cells of the row.
    """

    def decorate(fn: _Fn) -> _Fn:
        row = Op(
            name or fn.__name__, fn, ("x",), "fixed" if fixed is not None else qparams, fixed=fixed,
            integer=partial(integer.pointwise, exact, single or exact), pointwise=exact, family="lookup", floats=floats,
            kernels="float_ops: Pointwise" if qparams == "float" else "elementwise: Lookup, float_ops: Pointwise",
            samples=partial(_samples, samples, positive), bad_samples=partial(_bad_samples, samples, bad), **cells,
        )  # fmt: skip
        ROWS.append(row)
        return fn

    return decorate


def _samples(arguments: _Arguments, positive: bool) -> list[Sample]:
    edges = torch.tensor([-8.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 8.0])
    inputs = [normal(2, 3, 4, 5) * 3.0, normal(7, seed=1), edges]
    if positive:
        inputs = [x.abs() + 0.125 for x in inputs]
    return [call(x, **given) for given in arguments for x in inputs]


def _bad_samples(arguments: _Arguments, bad: Samples) -> list[Sample]:
    unknown = refused(TypeError, "unexpected keyword argument", normal(3), **arguments[0], no_such_argument=1)
    return [unknown, *bad()]
