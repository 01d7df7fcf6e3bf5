"""The shape function of every row: what it says of known and of unknown lengths, against the float reference."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from qfx.eager.call import Bound, bind, in_layout
from qfx.eager.program import compile_call
from qfx.ir.types import QDType, QParams
from qfx.ops import TABLE, Op
from qfx.ops.dims import Dim, Length, applied, key_of, substituted, unknown
from qfx.ops.table import same_shape
from tests.eager.test_run_op import operands, real_bias
from tests.ops.quantized_samples import Quantized, cases, quantized

SAMPLES = [
    pytest.param(op, i, id=f"{op.name}-{i}")
    for op in TABLE.values()
    if op.gives_tensor
    for i in range(len(op.samples()))
]


def lengths_of(args: Any, operand: Any) -> Any:
    """Arguments of a sample with ``operand(tensor)`` for each tensor."""
    return fx.node.map_aggregate(list(args), lambda v: operand(v) if isinstance(v, Tensor) else v)


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_known_lengths_give_the_shape_of_the_float_reference(op: Op, i: int) -> None:
    sample = op.samples()[i]
    assert op.shape is not None
    found = op.shape(*lengths_of(sample.args, lambda t: tuple(t.shape)), **sample.kwargs)
    assert found is not None
    assert tuple(found) == tuple(op.fn(*sample.args, **sample.kwargs).shape)


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_unknown_lengths_give_it_once_they_are_known(op: Op, i: int) -> None:
    sample = op.samples()[i]
    assert op.shape is not None
    values: dict[Any, int] = {}

    def lengths(t: Tensor) -> tuple[Length, ...]:
        keys = [(len(values), dim) for dim in range(t.dim())]
        values.update(zip(keys, t.shape, strict=True))
        return tuple(map(unknown, keys))

    found = op.shape(*lengths_of(sample.args, lengths), **sample.kwargs)
    expected = tuple(op.fn(*sample.args, **sample.kwargs).shape)
    if found is None:
        assert op.name == "squeeze"
        return
    assert tuple(substituted(length, values.__getitem__) for length in found) == expected


@pytest.mark.parametrize("op", [p for p in TABLE.values() if p.gives_tensor], ids=lambda op: op.name)
def test_it_takes_the_arguments_of_the_op(op: Op) -> None:
    assert op.shape is not None
    parameters = inspect.signature(op.fn).parameters.values()
    operands = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    attributes = {p.name: None for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    inspect.signature(op.shape).bind(*operands, **attributes)


# ---------------------------------------------------------------- what the runtime infers


IN_PROGRAMS = [
    param
    for param in cases("own", "share", "fixed", "float")
    for op, i in [param.values]
    if i == 0 or op.shape is not same_shape  # which is one function, and one sample of each such row tells
    if op.uncovered(**op.samples()[i].kwargs) is None
]


def bound_call(case: Quantized, out: QParams | None) -> Bound:
    """The call of a sample as the one op of a program."""
    return bind(case.op.name, operands(case, QDType.quint8, real_bias(case)), out, case.kwargs)


@pytest.mark.parametrize(("op", "i"), IN_PROGRAMS)
def test_the_runtime_infers_the_same(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    given = torch.utils._pytree.tree_leaves(case.args[: len(op.tensors)])
    if op.integers or not op.tensors or any(isinstance(a, Tensor) for a in given):
        pytest.skip("the sample has a float operand, integers or none, which run_op refuses")
    bound = bound_call(case, None if op.qparams == "float" else case.out)
    (part,) = compile_call(bound).segments
    assert part.executable is not None
    given = [tuple(in_layout(x.codes, what).shape) for x, what in zip(bound.activations, bound.layouts, strict=True)]
    (found,) = part.executable.output_shapes(*given)
    if bound.result_channels_last:
        found = (found[0], found[-1], *found[1:-1])
    sample = op.samples()[i]
    assert op.shape is not None
    assert tuple(found) == tuple(op.shape(*lengths_of(sample.args, lambda t: tuple(t.shape)), **sample.kwargs) or ())


# ---------------------------------------------------------------- expressions

N, C = unknown("n"), unknown("c")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (N + 2 - 3 + 1, N),
        ((N + 2 - 3) // 1 + 1, N),
        ((2 * N + 3) // 2, N + 1),
        (N * C // C, N),
        (12 * N * C // (3 * C), 4 * N),
        (N - N, 0),
        (0 * N, 0),
        (N // N, 1),
        (8 * C * (N + 1) * (C + 1) // (2 * (N + 1) * (C + 1)), 4 * C),
        ((N * N - 1) // (N + 1), N - 1),
        (((N // 2 + 1) * (C // 2 + 1) * 3 * N) // ((N // 2 + 1) * (C // 2 + 1) * N), 3),
        (N * (C + 1), C * N + N),
        (2 - N + N, 2),
    ],
)
def test_equal_expressions_are_equal(found: Length, expected: Length) -> None:
    assert found == expected
    assert hash(found) == hash(expected)
    assert str(found) == str(expected)


@pytest.mark.parametrize("text", ["(n + 1) // 2", "n * c + 3", "(n + 3) // 2 * c", "n // c + n", "7 // n", "5 - n",
                                  "(n * c + n) // (c + 2)", "(n * c + n + 2 * c + 2) // (c + 1)"])  # fmt: skip
@pytest.mark.parametrize(("n", "c"), [(1, 1), (5, 3), (12, 4)])
def test_values_are_those_of_integer_arithmetic(text: str, n: int, c: int) -> None:
    expression = eval(text, {"n": N, "c": C})
    assert isinstance(expression, Dim)
    assert substituted(expression, {"n": n, "c": c}.__getitem__) == eval(text, {"n": n, "c": c})


def test_an_unknown_has_a_key_and_an_expression_has_none() -> None:
    assert key_of(N) == "n"
    assert [key_of(length) for length in (N + 1, 2 * N, N * N, 3, None, applied(max, N, 2))] == [None] * 6


def test_different_lengths_differ() -> None:
    different = [N, C, N + 1, 2 * N, N * N, N // 2, applied(max, N, 2), applied(min, N, 2)]
    assert len(set(different)) == len(different)
    assert torch.Size([1]) != N
