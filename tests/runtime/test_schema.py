"""The table of steps: what is written from it is fresh, what it says is checked, and what it holds is used."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qfx
from docs import program_format
from qfx.errors import RuntimeLoadError
from qfx.runtime import Executable, ProgramBuilder, steps
from qfx.runtime.dtypes import DTYPES
from qfx.runtime.schema import ANY, Attribute, schemas
from qfx.runtime.writing import Step, write
from tests.runtime.step_programs import constant, one_step, outs_of
from tests.runtime.test_steps import CASES, Case

SOURCES = sorted(Path(qfx.__file__).parent.rglob("*.py"))
KINDS = {"integer": "ints", "number": "floats", "expr": "exprs", "constant": "constants", "text": "text"}
TAKE_NAN = {("pointwise_f32", "args"), ("gated_f32", "args"), ("pad", "fill")}
FULLEST = {case.op: case for case in sorted(CASES, key=lambda c: sum(len(v) for v in c.attributes.values()))}
"""One case an operation, with the most attributes."""


# ---------------------------------------------------------------- what is written from it


def test_the_constructors_are_those_of_the_table() -> None:
    assert program_format.MODULE.read_text() == program_format.module(), "write it anew: python -m docs.program_format"


def test_the_document_is_that_of_the_table() -> None:
    assert program_format.PAGE.read_text() == program_format.page(), "write it anew: python -m docs.program_format"


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.label}" if c.label else c.op)
def test_a_constructor_writes_what_the_step_is_told(case: Case) -> None:
    """A program of the constructor computes what the one of bare attributes does."""
    b, schema = ProgramBuilder(), schemas()[case.op]
    results = case.results()
    types = [name for name, _ in outs_of([*case.inputs, *results])]
    inputs = [b.value(f"x{i}", types[i], [-1] * x.ndim) for i, x in enumerate(case.inputs)]
    given: dict[str, Any] = {}
    for kind, own in case.attributes.items():
        for name, entry in own.items():
            attribute = next(a for a in schema.attributes if a.name == name)
            several = attribute.count != 1 and not isinstance(entry, (list, tuple))
            given[name] = [entry] if several else entry
            if kind == "constants":
                given[name] = constant(b, entry)
            elif kind == "exprs":
                made = [b.expr_const(e) for e in given[name]]
                given[name] = made if attribute.count != 1 else made[0]
    operands: list[Any] = [inputs] if schema.operands[0].presence == "any" else inputs
    step: Step = getattr(steps, case.op)(*operands, **given)
    outputs = write(b, "the_step", step, *([-1] * y.ndim for y in results), dtype=types[len(inputs)])
    for one, other in zip(Executable(b.build(inputs, outputs))(*case.inputs), results, strict=True):
        assert one.shape == other.shape
        assert case.ulps or np.array_equal(one, other, equal_nan=one.dtype == np.float32)


# ---------------------------------------------------------------- what it says is checked


def refused(case: Case, **changed: Any) -> None:
    attributes = copy.deepcopy(case.attributes) | changed
    with pytest.raises(RuntimeLoadError) as error:
        one_step(case.op, case.inputs, outs_of(case.results()), **attributes)
    assert error.value.where == "the_step"


def outside(a: Attribute) -> Iterator[float]:
    """Entries just outside of its range."""
    if a.kind == "integer":
        yield from (a.low - 1, a.high + 1)
    if a.kind == "number":
        yield from (math.nextafter(a.low, -math.inf), math.nextafter(a.high, math.inf))
        yield math.nan


@pytest.mark.parametrize("case", FULLEST.values(), ids=lambda c: c.op)
def test_attributes_are_held_to_the_table(case: Case) -> None:
    for a in schemas()[case.op].attributes:
        kind = KINDS[a.kind]
        own = dict(case.attributes.get(kind, {}))
        if a.required:
            refused(case, **{kind: {k: v for k, v in own.items() if k != a.name}})
        if a.kind == "constant":
            for dtype in (np.uint8, np.int8, np.int32, np.float32, np.float64):
                row = next((d.name for d in DTYPES.values() if d.numpy == np.dtype(dtype).name), None)
                if row is not None and row not in a.types:
                    refused(case, constants=own | {a.name: np.zeros((2, 2), dtype)})
            continue
        for entry in outside(a):
            if a.low <= entry <= a.high or (math.isnan(entry) and (case.op, a.name) in TAKE_NAN):
                continue
            value = int(entry) if a.kind == "integer" else float(entry)
            count = len(np.atleast_1d(own[a.name])) if a.name in own else max(a.count, 1)
            refused(case, **{kind: own | {a.name: [value] * count}})
        if a.count not in (ANY, 1) and a.kind != "expr":
            entry = np.clip(1, a.low, a.high).astype(int if a.kind == "integer" else float).item()
            refused(case, **{kind: own | {a.name: [entry] * 9}})
    refused(case, ints=case.attributes.get("ints", {}) | {"surprise": 1})


@pytest.mark.parametrize("case", FULLEST.values(), ids=lambda c: c.op)
def test_operands_and_results_are_held_to_the_table(case: Case) -> None:
    schema, outs = schemas()[case.op], outs_of(case.results())
    for i, (_, rank) in enumerate(outs):
        types = schema.results[i].types or (outs_of(case.inputs)[0][0],)
        for other in DTYPES.keys() - set(types):
            with pytest.raises(RuntimeLoadError, match=r"not|share bytes"):
                one_step(case.op, case.inputs, [*outs[:i], (other, rank), *outs[i + 1 :]], **case.attributes)
    for i in range(len(case.inputs)):
        types = schema.operands[min(i, len(schema.operands) - 1)].types
        for row in DTYPES.values():
            if row.numpy and row.name not in types:
                changed = [np.zeros(y.shape, row.numpy) if k == i else y for k, y in enumerate(case.inputs)]
                with pytest.raises(RuntimeLoadError, match=r"is .*, not"):
                    one_step(case.op, changed, outs, **case.attributes)


@pytest.mark.parametrize("row", [d for d in DTYPES.values() if d.numpy], ids=lambda d: d.name)
def test_moves_take_every_type_of_whole_bytes(row: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 4)).astype(row.numpy)
    b = ProgramBuilder()
    v = b.value("x", row.name, [-1, -1, -1])
    exprs = [b.expr_const(i) for i in range(7)]
    made = {
        "permute": (steps.permute(v, perm=[2, 0, 1]), x.transpose(2, 0, 1)),
        "reshape": (steps.reshape(v, shape=[exprs[6], exprs[4], exprs[1]]), x.reshape(6, 4, 1)),
        "slice": (steps.slice(v, axis=2, step=2, start=exprs[1], end=exprs[4]), x[:, :, 1:4:2]),
        "concat": (steps.concat([v, v], axis=1), np.concatenate([x, x], axis=1)),
    }
    outputs = [write(b, name, step, [-1] * 3, dtype=row.name)[0] for name, (step, _) in made.items()]
    results = Executable(b.build([v], outputs))(x)
    for result, (_, expected) in zip(results, made.values(), strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


# ---------------------------------------------------------------- what it holds is used


def test_somebody_writes_every_step_and_attribute() -> None:
    """Steps and keywords that functions of qfx name: what none names would be in the format for nobody."""
    written: dict[str, set[str]] = {}
    for path in SOURCES:
        if path == program_format.MODULE:
            continue
        tree = ast.parse(path.read_text())
        tables = {  # module-level tables of constructors, by their names
            target.id: _named(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            named = _named(function)
            named |= {op for n in ast.walk(function) if isinstance(n, ast.Name) for op in tables.get(n.id, ())}
            keywords = {k.arg for n in ast.walk(function) if isinstance(n, ast.Call) for k in n.keywords if k.arg}
            for op in named:
                written.setdefault(op, set()).update(keywords)
    for op, schema in schemas().items():
        assert op in written, f"nothing writes {op}"
        unwritten = {a.name for a in schema.attributes} - written[op]
        assert not unwritten, f"nothing writes {unwritten} of {op}"


def _named(tree: ast.AST) -> set[str]:
    """The constructors that a piece of code names."""
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name))
    return {n.attr for n in found if isinstance(n.value, ast.Name) and n.value.id == "steps"}


def test_one_function_writes_steps() -> None:
    """Every other writer of programs goes by the constructors."""
    for path in SOURCES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        found = [n for n in calls if isinstance(n.func, ast.Attribute) and n.func.attr == "step"]
        bare = [n for n in found if isinstance(n.func, ast.Attribute) and _is_builder(n.func.value)]
        assert not bare or path.name == "writing.py", f"{path} writes a step by itself"


def _is_builder(value: ast.expr) -> bool:
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name in ("b", "builder")


def test_constructors_have_no_defaults_of_their_own() -> None:
    """What stands for what is left out is in the table alone."""
    for op in schemas():
        for parameter in inspect.signature(getattr(steps, op)).parameters.values():
            assert parameter.default in (inspect.Parameter.empty, None)


def test_fields_of_the_table_are_read() -> None:
    assert {f.name for f in dataclasses.fields(Attribute)} == set(_a_row()["attributes"][0])


def _a_row() -> dict[str, Any]:
    from qfx.runtime import _C

    return next(row for row in _C.step_schemas() if row["attributes"])
