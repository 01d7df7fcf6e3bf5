"""run_op: the integers of every row are those of its exact reference, whatever the memory layout."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import qfx
from qfx.eager import run as eager_run
from qfx.eager import run_op
from qfx.eager.program_cache import OVERHEAD
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.ir.types import QArray, QDType, QParams
from qfx.lowering.emitters import emittable
from qfx.ops import TABLE, Op
from qfx.runtime import isa_names
from qfx.tensor import QTensor
from tests.ops.quantized_samples import Quantized, cases, quantized

ROOT = Path(__file__).parents[2]

CODED = [c for c in cases("own", "share", "fixed") if emittable(c.values[0].name, coded=True)]
"""Rows whose integers the runtime computes, with their samples."""


def as_qtensor(operand: Any, dtype: QDType) -> Any:
    """A reference's operand as run_op takes it."""
    if isinstance(operand, list):
        return [as_qtensor(item, dtype) for item in operand]
    if not isinstance(operand, QArray):
        return operand
    scale, zero = operand.scale.tolist(), operand.zero_point.tolist()
    per_channel = operand.axis is not None
    qparams = QParams(tuple(scale) if per_channel else scale, tuple(zero) if per_channel else zero, dtype, operand.axis)
    return QTensor(operand.values, qparams)


def operands(case: Quantized, dtype: QDType, real_bias: Tensor | None) -> list[Any]:
    made = []
    for name, operand in zip(inspect.signature(case.op.fn).parameters, case.args, strict=False):
        if name == "bias" and case.op.weights:
            made.append(None if operand is None else real_bias)
        else:
            made.append(as_qtensor(operand, QDType.qint8 if name in case.op.weights else dtype))
    return made


def real_bias(case: Quantized) -> Tensor | None:
    """Its bias as exactly the real numbers that its integers stand for."""
    bias = dict(zip(inspect.signature(case.op.fn).parameters, case.args, strict=False)).get("bias")
    bias = bias if case.op.weights else None
    return None if bias is None else (bias.values.double() * bias.scale.double()).float()


def eager(case: Quantized, dtype: QDType, out: QParams | None) -> Any:
    """The case through run_op."""
    return run_op(case.op.name, *operands(case, dtype, real_bias(case)), out=out, **case.kwargs)


@pytest.mark.inventory("S175", "S176")
@pytest.mark.parametrize(("op", "i"), CODED)
def test_integers_are_those_of_the_reference(op: Op, i: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = QDType.quint8 if i else QDType.qint8  # each row's first sample; the others differ in attributes and shapes
    case = quantized(op, op.samples()[i], dtype=dtype)
    want = case.run(case.out)
    for isa in isa_names():
        monkeypatch.setenv("QFX_ISA", isa)
        eager_run._without_constants.clear()
        y = eager(case, dtype, case.out)
        assert isinstance(y, QTensor)
        assert y.qparams == case.out
        assert torch.equal(y.int_repr(), want), (isa, (y.int_repr().int() - want.int()).abs().max())
    eager_run._without_constants.clear()


def is_of_qtensors(case: Quantized) -> bool:
    """Whether its values are quantized, at least one: run_op refuses floats, integers and truth values among them.

    It refuses tables, too.
    """
    given = dict(zip(inspect.signature(case.op.fn).parameters, case.args, strict=False))
    held = [given[name] for name in (*case.op.tensors, *case.op.integers) if name in given]
    values = [item for operand in held for item in (operand if isinstance(operand, list) else [operand])]
    if case.op.looks_up:
        return False
    return any(isinstance(v, QArray) for v in values) and not any(isinstance(v, Tensor) for v in values)


@pytest.mark.parametrize(("op", "i"), cases("float"))
def test_float_rows_are_requantized(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    if not is_of_qtensors(case):
        with pytest.raises(InputError, match="QTensor"):
            eager(case, QDType.quint8, case.out)
        return
    y = eager(case, QDType.quint8, case.out)
    assert (y.int_repr().int() - case.run(case.out).int()).abs().max() <= 1  # float ops may round float32 otherwise


FLOAT_RESULTS = [c for c in cases("own") if c.values[0].name in ("conv", "linear")]


@pytest.mark.parametrize(("op", "i"), FLOAT_RESULTS)
def test_no_out_gives_float(op: Op, i: int) -> None:
    case = quantized(op, op.samples()[i])
    assert torch.equal(eager(case, QDType.quint8, None), case.run(None))


CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
OUT = QParams(0.1, 60, QDType.quint8)


def image(*shape: int, scale: float = 0.05, zero_point: int = 100, dtype: QDType = QDType.quint8) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), scale, zero_point, dtype)


def weight(*shape: int) -> QTensor:
    return qfx.quantize_per_tensor(torch.randn(shape), 0.03, 0, qfx.qint8)


@pytest.mark.parametrize("name", ["conv", "add", "max_pool", "mean", "cat"])
def test_memory_layout_changes_no_integer(name: str) -> None:
    x = image(2, 3, 8, 8)
    last = x.contiguous(memory_format=torch.channels_last)
    odd = image(2, 3, 8, 16).copy_(torch.cat([x, x], 3))[..., :8]
    w = weight(4, 3, 3, 3)
    calls = {
        "conv": lambda x: run_op("conv", x, w, None, out=OUT, **CONV),
        "add": lambda x: run_op("add", x, x, out=OUT),
        "max_pool": lambda x: run_op("max_pool", x, **POOL),
        "mean": lambda x: run_op("mean", x, dims=(2, 3), keepdim=False, out=OUT),
        "cat": lambda x: run_op("cat", [x, x], dim=1),
    }
    want = calls[name](x)
    for other in (last, odd):
        assert torch.equal(calls[name](other), want)


def test_operands_of_two_layouts_and_ranks() -> None:
    x, y = image(2, 3, 8, 8).contiguous(memory_format=torch.channels_last), image(8, 8, scale=0.03)
    want = TABLE["add"].integer(x.array, y.array, out=OUT)
    assert torch.equal(run_op("add", x, y, out=OUT).int_repr(), want)
    assert torch.equal(run_op("add", y, x, out=OUT).int_repr(), TABLE["add"].integer(y.array, x.array, out=OUT))


def test_results_of_image_ops_are_channels_last_and_chain_without_copies() -> None:
    y = run_op("conv", image(2, 3, 8, 8), weight(4, 3, 3, 3), None, out=OUT, **CONV)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert run_op("add", y, y, out=OUT).is_contiguous(memory_format=torch.channels_last)
    assert run_op("relu", y, out=OUT).is_contiguous(memory_format=torch.channels_last)


def test_one_image_needs_no_batch_dim() -> None:
    x, w = image(3, 8, 8), weight(4, 3, 3, 3)
    assert torch.equal(run_op("max_pool", x, **POOL), run_op("max_pool", x.unsqueeze(0), **POOL)[0])
    y = run_op("conv", x, w, None, out=OUT, **CONV)
    assert torch.equal(y, run_op("conv", x.unsqueeze(0), w, None, out=OUT, **CONV)[0])


def test_sharing_rows_requantize_operands_of_other_parameters() -> None:
    a, b = image(2, 3), image(2, 3, scale=0.02, zero_point=30)
    y = run_op("cat", [a, b], dim=0)
    assert y.qparams == a.qparams
    assert torch.equal(y[:2], a)
    assert torch.equal(y[2:], qfx.quantize_per_tensor(b.dequantize(), 0.05, 100, qfx.quint8))
    wide = run_op("max_pool", image(1, 1, 4, 4), out=OUT, **POOL)
    assert wide.qparams == OUT


def test_fixed_rows_follow_the_operands_dtype() -> None:
    assert run_op("sigmoid", image(4)).qparams == QParams(1 / 256, 0, QDType.quint8)
    assert run_op("sigmoid", image(4, zero_point=0, dtype=QDType.qint8)).qparams == QParams(1 / 256, -128, QDType.qint8)


# ---------------------------------------------------------------- programs


def test_a_weight_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = eager_run.compile_call
    monkeypatch.setattr(eager_run, "compile_call", lambda bound: made.append(bound) or original(bound))
    w, b = weight(4, 5), torch.randn(4)
    for batch in (1, 3, 7):
        run_op("linear", image(batch, 5), w, b, out=OUT)
    assert len(made) == 1
    run_op("linear", image(2, 5, scale=0.07), w, b, out=OUT)
    assert len(made) == 2


def test_a_changed_weight_or_bias_is_seen() -> None:
    x, w, b = image(3, 5), weight(4, 5), torch.randn(4)
    before = run_op("linear", x, w, b, out=OUT)
    b.add_(1.0)
    assert not torch.equal(run_op("linear", x, w, b, out=OUT), before)
    b.sub_(1.0)
    w[0] = 1.0
    changed = run_op("linear", x, w, b, out=OUT)
    assert not torch.equal(changed, before)
    fresh = QTensor(w.int_repr(), w.qparams)
    assert torch.equal(run_op("linear", x, fresh, b, out=OUT), changed)


def test_programs_go_with_their_weight() -> None:
    w = weight(4, 5)
    run_op("linear", image(3, 5), w, None, out=OUT)
    alive = weakref.ref(w)
    del w
    gc.collect()
    assert alive() is None


def test_a_layer_keeps_programs_of_few_bytes_and_those_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_run, "KEPT_BESIDE_NEWEST", 3 * OVERHEAD)
    w = weight(4, 5)

    def program(i: int) -> Any:
        run_op("linear", image(3, 5, scale=0.05 + 0.001 * i), w, None, out=OUT)
        return eager_run._with_constants[w].programs()[-1]

    first = program(0)
    made = [program(i) for i in range(1, 3)]
    assert program(0) is first
    made.append(program(3))
    assert eager_run._with_constants[w].programs() == [made[1], first, made[2]]
    assert program(0) is first
    assert program(1) is not made[0]


def test_a_program_holds_no_copy_of_the_weight() -> None:
    w = weight(64, 64)
    run_op("linear", image(3, 64), w, torch.randn(64), out=OUT)
    (made,) = eager_run._with_constants[w].programs()
    assert not list(made.root.buffers())
    assert all(not list(node.graph.owning_module.buffers()) for part in made.segments for node in part.segment.nodes)


def test_runs_in_inference_mode() -> None:
    with torch.inference_mode():
        x, w, b = image(3, 5), weight(4, 5), torch.randn(4)
        y = run_op("linear", x, w, b, out=OUT)
        assert torch.equal(run_op("linear", x, w, b, out=OUT), y)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: run_op("conf", image(2)), UnsupportedError, "'conf' is no op"),
        (lambda: run_op("quantize", image(2)), UnsupportedError, "'quantize' is no op"),
        (lambda: run_op("relu", torch.randn(3), out=OUT), InputError, "float tensor of torch.float32 as x"),
        (lambda: run_op("add", image(3), 2.0, out=OUT), InputError, "float as y"),
        (lambda: run_op("logical_not", torch.ones(3).bool(), out=OUT), InputError, "got a tensor of torch.bool as x"),
        (lambda: run_op("add", image(3), image(4), out=OUT), InputError, "add does not run .*(3,)"),
        (
            lambda: run_op("linear", image(2, 5), torch.randn(4, 5), None, out=OUT),
            InputError,
            "weight of torch.float32",
        ),
        (lambda: run_op("linear", image(2, 5), image(4, 5), None, out=OUT), QuantizationError, "weight of qfx.quint8"),
        (lambda: run_op("linear", image(2, 5), weight(4, 5), torch.ones(3), out=OUT), InputError, "bias of shape"),
        (
            lambda: run_op("linear", image(2, 5), weight(4, 5), torch.ones(4).long(), out=OUT),
            InputError,
            "bias of torch.int64",
        ),
        (
            lambda: run_op("linear", image(2, 5), weight(4, 5), torch.tensor([1.0, float("nan"), 0, 0]), out=OUT),
            ConversionError,
            "not finite",
        ),
        (
            lambda: run_op("linear", image(2, 6), weight(4, 5), None, out=OUT),
            InputError,
            "linear does not run .*(4, 5)",
        ),
        (
            lambda: run_op("relu", qfx.quantize_per_tensor(torch.randn(3), 0.1, 0, qfx.qint32), out=OUT),
            QuantizationError,
            "qint32",
        ),
        (
            lambda: run_op("relu", qfx.quantize_per_channel(torch.randn(2), [0.1, 0.2], [0, 0], 0, qfx.quint8)),
            QuantizationError,
            "per channel along 0",
        ),
        (lambda: run_op("relu", image(3), out=QParams(0.1, 0, QDType.qint32)), QuantizationError, "a result of dtype"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert caught.value.remedy


def test_weights_per_channel_along_another_axis() -> None:
    w = qfx.quantize_per_channel(torch.randn(4, 5), [0.1] * 5, [0] * 5, 1, qfx.qint8)
    with pytest.raises(QuantizationError, match="axis 1"):
        run_op("linear", image(2, 5), w, None, out=OUT)


def test_shapes_that_fit_no_more_after_the_first_call() -> None:
    w = weight(4, 5)
    run_op("linear", image(2, 5), w, None, out=OUT)
    with pytest.raises(InputError, match=r"linear does not run .*\(2, 6\)"):
        run_op("linear", image(2, 6), w, None, out=OUT)


@pytest.mark.parametrize("name", ["mean", "amax", "relu"])
def test_a_single_value_without_dims(name: str) -> None:
    attributes = {} if name == "relu" else {"dims": None, "keepdim": False}
    x = image()
    y = run_op(name, x, out=x.qparams, **attributes)
    assert y.shape == ()
    assert torch.equal(y, torch.relu(x) if name == "relu" else x)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 8, 8)], ids=str)
def test_no_image_at_all(shape: tuple[int, ...]) -> None:
    assert run_op("conv", image(*shape), weight(4, 3, 3, 3), None, out=OUT, **CONV).shape == (shape[0], 4, 8, 8)
    assert run_op("add", image(*shape), image(*shape), out=OUT).shape == shape


def test_many_threads_at_once() -> None:
    x, w = image(2, 3, 8, 8), weight(4, 3, 3, 3)
    want = run_op("conv", x, w, None, out=OUT, **CONV)
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(i for i in range(20) if not torch.equal(run_op("conv", x, w, None, out=OUT, **CONV), want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_programs_are_gone_before_the_runtime_is() -> None:
    program = "import torch, qfx; x = qfx.quantize_per_tensor(torch.randn(3), 0.1, 0, qfx.quint8); torch.relu(x)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
