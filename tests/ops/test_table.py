"""The table as data: complete rows, one row a name and a function, calls that graphs can carry."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
from typing import Any

import pytest
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

import qfx.ops.table as table_module
from qfx.errors import UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.lowering.emitters import EMITTERS, emittable
from qfx.ops import TABLE, Op, Sample, is_op, op_of, register
from qfx.ops.shape import integer as move
from qfx.ops.table import never

ROWS = [pytest.param(op, id=op.name) for op in TABLE.values()]
SAMPLES = [pytest.param(op, i, id=f"{op.name}-{i}") for op in TABLE.values() for i in range(len(op.samples()))]
BAD_SAMPLES = [pytest.param(op, i, id=f"{op.name}-{i}") for op in TABLE.values() for i in range(len(op.bad_samples()))]


def on(device: str, value: Any) -> Any:
    return fx.node.map_aggregate(value, lambda v: v.to(device) if isinstance(v, torch.Tensor) else v)


def new_function(x: torch.Tensor) -> torch.Tensor:
    return x


def new_row(**changes: Any) -> Op:
    row = Op("new", new_function, ("x",), "share", integer=move.move)
    return dataclasses.replace(row, **changes)


@pytest.mark.parametrize("op", ROWS)
def test_row_is_complete(op: Op) -> None:
    assert op.samples(), "a row without samples is not tested"
    assert op.bad_samples(), "a row without bad samples has no tested error"
    assert op.integer is not None or op.qparams == "none"
    assert op.family is not None or op.name == "size"
    assert op.fn.__doc__
    assert (op.family == "lookup") == (op.pointwise is not None)


@pytest.mark.parametrize("op", ROWS)
def test_an_op_that_runs_on_floats_has_an_emitter_and_layers_do_not(op: Op) -> None:
    assert op.floats is None or op.name in EMITTERS
    layer = op.sums == "weights"
    assert op.floats is not None or layer or op.pointwise is not None or op.qparams == "none"
    assert op.floats is None or not layer


@pytest.mark.parametrize("op", ROWS)
def test_operands_are_parameters_in_order(op: Op) -> None:
    parameters = inspect.signature(op.fn).parameters
    positional = [p.name for p in parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [name for name in positional if name in op.tensors] == list(op.tensors)
    assert set(op.weights) <= set(positional)
    assert ("clamp" in op.epilogues) == ("activation" in parameters)
    assert ("residual" in op.epilogues) == ("residual" in parameters)


@pytest.mark.parametrize("op", [p for p in ROWS if p.values[0].integer is not None])
def test_integer_reference_takes_the_same_arguments_and_out(op: Op) -> None:
    assert op.integer is not None
    own = inspect.signature(op.integer).parameters
    assert own["out"].kind is inspect.Parameter.KEYWORD_ONLY
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own.values()):
        return
    assert list(own)[:-1] == list(inspect.signature(op.fn).parameters)


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_samples_are_reproducible(op: Op, i: int) -> None:
    first, again = op.samples()[i], op.samples()[i]
    torch.testing.assert_close(first.args, again.args, rtol=0, atol=0) if first.args else None
    assert first.kwargs == again.kwargs
    assert first.error is None


@pytest.mark.parametrize(("op", "i"), BAD_SAMPLES)
def test_bad_sample_is_refused(op: Op, i: int) -> None:
    sample = op.bad_samples()[i]
    assert sample.error is not None
    with pytest.raises(sample.error, match=sample.match):
        op.fn(*sample.args, **sample.kwargs)


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_shapes_propagate_without_data(op: Op, i: int) -> None:
    sample = op.samples()[i]
    expected = op.fn(*sample.args, **sample.kwargs)
    meta = op.fn(*on("meta", list(sample.args)), **sample.kwargs)
    with FakeTensorMode() as mode:
        fake_args = fx.node.map_aggregate(
            list(sample.args), lambda v: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v
        )
        fake = op.fn(*fake_args, **sample.kwargs)
    if not isinstance(expected, torch.Tensor):
        assert expected == meta == fake
        return
    assert expected.shape == meta.shape == fake.shape
    assert expected.dtype == meta.dtype == fake.dtype


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_calls_round_trip_through_generated_code(op: Op, i: int) -> None:
    sample = op.samples()[i]
    graph = fx.Graph()
    names = iter(f"operand_{n}" for n in range(100))
    operands: list[torch.Tensor] = []

    def placeholder(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            operands.append(value)
            return graph.placeholder(next(names))
        if isinstance(value, list):
            return [placeholder(item) for item in value]
        return value

    args = tuple(placeholder(a) for a in sample.args)
    node = graph.call_function(op.fn, args, dict(sample.kwargs))
    graph.output(node)
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(code.src, namespace)
    assert pickle.loads(pickle.dumps(node.target)) is op.fn
    assert op_of(node) is op_of(node.target) is op
    assert is_op(node)
    assert is_op(node, "no such op", op.name)
    assert not is_op(node, "no such op")
    result, expected = namespace["forward"](None, *operands), op.fn(*sample.args, **sample.kwargs)
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def test_other_targets_are_no_ops() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    assert op_of(x) is None
    assert op_of(torch.relu) is None
    assert op_of("relu") is None
    assert not is_op(x)
    assert not is_op(None)
    assert not is_op(graph.call_function(torch.relu, (x,)), "relu")
    assert not is_op(graph.call_method("relu", (x,)))


def test_register_adds_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "TABLE", dict(TABLE))
    monkeypatch.setattr(table_module, "_BY_TARGET", dict(table_module._BY_TARGET))
    row = register(new_row())
    assert table_module.TABLE["new"] is row
    assert op_of(new_function) is row


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "conv"}, "'conv' can't be registered: the name is taken"),
        ({"fn": TABLE["conv"].fn}, "its function is that of 'conv'"),
        ({"fn": lambda x: x}, "not a function at the top of a module"),
        ({"fn": torch.nn.ReLU.forward}, "not a function at the top of a module"),
        ({"qparams": "fixed"}, "fixed qparams go with the kind 'fixed'"),
        ({"fixed": QParams(1.0, 0, QDType.quint8)}, "fixed qparams go with the kind 'fixed'"),
        ({"integer": None}, "needs an integer reference or a pointwise function"),
    ],
)
def test_register_refuses(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(match)):
        register(new_row(**changes))


def test_a_sample_is_not_compared_by_value() -> None:
    assert Sample((torch.ones(2),)) != Sample((torch.ones(2),))


@pytest.mark.parametrize("op", ROWS)
def test_what_runs_on_integers_is_what_programs_have(op: Op) -> None:
    tabled = op.qparams == "float" and op.pointwise is not None  # which would hold a pole
    assert op.on_codes == (emittable(op.name, coded=True) and op.qparams != "none" and not tabled)


# ---------------------------------------------------------------- calls that do nothing

NOTHING: dict[str, dict[str, Any]] = {
    "add_scalar": {"value": 0.0},
    "mul_scalar": {"value": 1.0},
    "pow_scalar": {"exponent": 1},
    "clamp": {"min": None, "max": None},
    "pad": {"pad": (0, 0), "mode": "constant", "value": None},
    "max_pool": {"kernel": (1,), "stride": (1,), "padding": (0,), "dilation": (1,), "ceil_mode": False},
    "avg_pool": {
        "kernel": (1,), "stride": (1,), "padding": (0,), "ceil_mode": True, "count_include_pad": False,
        "divisor_override": None,
    },
}  # fmt: skip


def test_every_row_that_can_do_nothing_is_tried() -> None:
    assert set(NOTHING) == {op.name for op in TABLE.values() if op.does_nothing is not never}


@pytest.mark.parametrize("name", NOTHING)
def test_a_call_that_does_nothing_returns_its_operand(name: str) -> None:
    x = torch.randn(2, 3, 4)
    assert TABLE[name].does_nothing(**NOTHING[name])
    assert torch.equal(TABLE[name].fn(x, **NOTHING[name]), x)


@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.does_nothing is not never], ids=lambda op: op.name)
def test_what_a_row_says_of_its_samples(op: Op) -> None:
    for sample in op.samples():
        given = {name: p.default for name, p in inspect.signature(op.fn).parameters.items() if p.kind is p.KEYWORD_ONLY}
        (x,) = sample.args
        y = op.fn(x, **sample.kwargs)
        assert op.does_nothing(**{**given, **sample.kwargs}) == (y.shape == x.shape and torch.equal(y, x))
