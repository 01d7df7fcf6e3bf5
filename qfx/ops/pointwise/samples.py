"""Samples of the functions of one value: the same inputs for each, with several sets of its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from qfx.ops.sample import Sample, Samples, call, normal, refused

_ARGUMENTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "relu": [{}],
    "clamp": [{"min": 0.0, "max": 6.0}, {"min": -1.0}, {"min": None, "max": 0.5}, {}],
    "sigmoid": [{}],
    "tanh": [{}],
    "silu": [{}],
    "gelu": [{}, {"approximate": "none"}, {"approximate": "tanh"}],
    "hardsigmoid": [{}],
    "hardswish": [{}],
    "leaky_relu": [{"negative_slope": 0.01}, {"negative_slope": 0.3}],
    "elu": [{"alpha": 1.0}, {"alpha": 0.4}],
    "celu": [{"alpha": 1.0}, {"alpha": 0.4}],
    "selu": [{}],
    "softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 3.0}],
    "mish": [{}],
    "logsigmoid": [{}],
    "softsign": [{}],
    "tanhshrink": [{}],
    "hardshrink": [{"lambd": 0.5}, {"lambd": 1.25}],
    "softshrink": [{"lambd": 0.5}, {"lambd": 1.25}],
    "threshold": [{"threshold": 0.1, "value": 0.0}, {"threshold": -1.0, "value": 2.0}],
    "exp": [{}],
    "log": [{}],
    "sqrt": [{}],
    "rsqrt": [{}],
    "reciprocal": [{}],
    "abs": [{}],
    "neg": [{}],
    "square": [{}],
    "pow_scalar": [{"exponent": 2.0}, {"exponent": 3}, {"exponent": 0.5}, {"exponent": 0}],
    "erf": [{}],
    "sin": [{}],
    "cos": [{}],
    "add_scalar": [{"value": 3.0}, {"value": -0.5}],
    "rsub_scalar": [{"value": 1.0}],
    "mul_scalar": [{"value": 0.5}, {"value": -3}],
    "rdiv_scalar": [{"value": 2.0}],
    "floor": [{}],
    "ceil": [{}],
    "round": [{}],
    "sign": [{}],
}  # fmt: skip

_POSITIVE = frozenset({"log", "sqrt", "rsqrt", "reciprocal", "rdiv_scalar", "pow_scalar"})


def _samples(name: str) -> list[Sample]:
    edges = torch.tensor([-8.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 8.0])
    inputs = [normal(2, 3, 4, 5) * 3.0, normal(7, seed=1), edges]
    if name in _POSITIVE:
        inputs = [x.abs() + 0.125 for x in inputs]
    return [call(x, **arguments) for arguments in _ARGUMENTS[name] for x in inputs]


def _bad_samples(name: str) -> list[Sample]:
    unknown = refused(TypeError, "unexpected keyword argument", normal(3), **_ARGUMENTS[name][0], no_such_argument=1)
    kind = refused(RuntimeError, "approximate", normal(3), approximate="cubic")
    return [unknown, kind] if name == "gelu" else [unknown]


GOOD: dict[str, Samples] = {name: partial(_samples, name) for name in _ARGUMENTS}
BAD: dict[str, Samples] = {name: partial(_bad_samples, name) for name in _ARGUMENTS}
