"""Every integer in a program equals the QDQ interpreter's, bit for bit, on any ISA, thread count, batch and layout."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled, fetch_codes
from qfx.lowering.int8 import lower_to_int8
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel
from qfx.ops import qdq
from qfx.runtime import isa_names
from tests.covering import pairs
from tests.lowering.nets import CASES

_SYMMETRIC = {"dtype": qfx.qint8, "qscheme": qfx.per_tensor_symmetric}
QCONFIGS = {
    "default": qfx.get_default_qconfig(),
    "reduce_range": qfx.get_default_qconfig("fbgemm"),
    "qint8_activations": qfx.QConfig(
        qfx.MinMaxObserver.with_args(**_SYMMETRIC), qfx.default_per_channel_weight_observer
    ),
    "per_tensor_weights": qfx.QConfig(qfx.MinMaxObserver, qfx.default_weight_observer),
    "affine_weights": qfx.QConfig(
        qfx.MinMaxObserver, qfx.PerChannelMinMaxObserver.with_args(dtype=qfx.qint8, qscheme=qfx.per_channel_affine)
    ),
}


@functools.cache
def quantized(name: str, qconfig: str) -> QuantizedModel:
    case = CASES[name]
    return qfx.quantize_fx(case.net(), {"": QCONFIGS[qconfig]}, [case.inputs(4, seed) for seed in range(2)])


@functools.cache
def loaded(name: str, qconfig: str, isa: str) -> Compiled:
    return compile_int8(quantized(name, qconfig).compiled.root, isa)


@pytest.fixture
def threads() -> Iterator[None]:
    before = qfx.get_num_threads()
    yield
    qfx.set_num_threads(before)


def assert_exact(name: str, qconfig: str, x: Tensor) -> None:
    """The program's integers and output on ``x`` are the interpreter's, on every ISA and with one and two threads."""
    want = interpret_integers(quantized(name, qconfig).graph_module(), (x,))
    for isa in isa_names():
        model = loaded(name, qconfig, isa)
        for count in (1, 2):
            qfx.set_num_threads(count)
            assert_same_codes(fetch_codes(model, (x,)), want.codes)
            assert_same_floats(model.run((x,)), want.output)


def assert_same_codes(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    wrong = [node for node, values in got.items() if not torch.equal(values, want[node].to(torch.int16))]
    assert got
    assert not wrong


def assert_same_floats(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype == torch.float32
    assert torch.equal(got, want), (got - want).abs().max()


@pytest.mark.inventory("S175", "S176")
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("name", "qconfig", "batch"), pairs(CASES, QCONFIGS, [1, 7]))
def test_every_integer_equals_the_interpreters(name: str, qconfig: str, batch: int) -> None:
    assert_exact(name, qconfig, CASES[name].inputs(batch))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.convolutional])
def test_other_spatial_sizes_than_calibrated_run_and_are_exact(name: str) -> None:
    case = CASES[name]
    x = torch.randn(2, case.shape[0], *(size + 4 for size in case.shape[1:]))
    model = quantized(name, "default")
    want = interpret_integers(model.graph_module(), (x,))
    assert_same_codes(fetch_codes(model.compiled, (x,)), want.codes)
    assert_same_floats(model(x), want.output)


def test_a_batch_of_one_at_calibration_broadcasts_to_any() -> None:
    case = CASES["Attention"]
    model = qfx.quantize_fx(case.net(), {"": QCONFIGS["default"]}, [case.inputs(1)])
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    for batch in (1, 3):
        want = interpret_integers(model.graph_module(), (case.inputs(batch),))
        assert_same_codes(fetch_codes(model.compiled, (case.inputs(batch),)), want.codes)
        assert_same_floats(model(case.inputs(batch)), want.output)


def _strided(x: Tensor) -> Iterator[Tensor]:
    """``x`` as views of other memory: a slice with a step, a window, a transposed buffer, channels_last."""
    wide = torch.full((2 * x.shape[0], *x.shape[1:-1], x.shape[-1] + 3), torch.nan)
    wide[::2, ..., 1:-2] = x
    yield wide[::2, ..., 1:-2]
    yield x.transpose(0, -1).contiguous().transpose(0, -1)
    yield x[:, :1].expand(x.shape)
    if x.dim() == 4:
        yield x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["Residual", "Sequence1d", "Volume3d", "Rows"])
def test_strides_of_the_input_do_not_change_a_bit(name: str) -> None:
    model = quantized(name, "default")
    for view in _strided(CASES[name].inputs(3)):
        assert_same_floats(model(view), model(view.clone(memory_format=torch.contiguous_format)))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_its_samples_one_by_one(name: str) -> None:
    model, x = quantized(name, "default"), CASES[name].inputs(5)
    assert_same_floats(model(x), torch.cat([model(x[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("name", CASES)
def test_without_fused_tables_every_quantized_value_is_in_the_program(name: str) -> None:
    gm, x = quantized(name, "default").graph_module(), CASES[name].inputs(2)
    want = interpret_integers(gm, (x,)).codes
    got = fetch_codes(compile_int8(lower_to_int8(gm)), (x,))
    assert_same_codes(got, want)
    assert set(got) == set(want)


class _Beside(fx.Interpreter):
    """Runs a QDQ graph in floats, each op on the integers of the exact run, and notes how far the codes are apart."""

    def __init__(self, gm: fx.GraphModule, codes: dict[str, Tensor]) -> None:
        super().__init__(gm)
        self.codes, self.distance = codes, dict.fromkeys(codes, 0.0)

    def run_node(self, n: fx.Node) -> object:
        if n.target is not qdq.quantize:
            return super().run_node(n)
        x, scale, zero = (self.env[a] for a in n.args)
        exact = (x.double() / scale.double() + zero).clamp(n.kwargs["quant_min"], n.kwargs["quant_max"])
        self.distance[n.name] = float((exact - self.codes[n.name]).abs().max())
        return self.codes[n.name]


@pytest.mark.parametrize("name", CASES)
def test_each_op_rounds_what_the_qdq_graph_computes_in_floats(name: str) -> None:
    """No code is further than half a step from the float value, but for float32's own error on values up to 255."""
    gm, x = quantized(name, "default").graph_module(), CASES[name].inputs(4)
    beside = _Beside(gm, interpret_integers(gm, (x,)).codes)
    with torch.no_grad():
        beside.run(x)
    assert max(beside.distance.values()) <= 0.5 + 256 * 16 * 2**-24


@pytest.mark.parametrize("name", ["Excited", "Residual", "Curves"])
def test_sqnr_is_that_of_the_qdq_graph_in_floats(name: str) -> None:
    case, model = CASES[name], quantized(name, "default")
    x = case.inputs(4)
    with torch.no_grad():
        want, rounded = case.net()(x), model.run_graph(x)
    assert abs(sqnr(want, model(x)) - sqnr(want, rounded)) < 0.1


def sqnr(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.double().square().sum() / (want - got).double().square().sum()))


@pytest.mark.inventory("S175", "S176")
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("qconfig", [qfx.per_tensor_dynamic_qconfig, qfx.per_channel_dynamic_qconfig])
def test_dynamic_layers_equal_the_interpreter(qconfig: qfx.QConfig) -> None:
    case = CASES["Rows"]
    model = qfx.quantize_fx(case.net(), {"": qconfig}, example_inputs=(case.inputs(2),))
    for isa in isa_names():
        twin = QuantizedModel(model.graph_module(), {}, isa)
        for threads in (1, 2):
            qfx.set_num_threads(threads)
            for batch in (1, 7):
                x = case.inputs(batch)
                assert_same_floats(twin(x), interpret_integers(model.graph_module(), (x,)).output)


class Residuals(nn.Module):
    """Linear layers with all that may be behind one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = x + self.second(x)
        return self.last(nn.functional.relu6(self.third(x) + x))


@pytest.mark.parametrize("qconfig", [qfx.per_tensor_dynamic_qconfig, qfx.default_dynamic_qconfig])
def test_what_is_fused_into_dynamic_layers_is_part_of_their_step(qconfig: qfx.QConfig) -> None:
    model = qfx.quantize_fx(Residuals().eval(), {"": qconfig}, example_inputs=torch.randn(2, 6))
    assert [r.fused for r in model.report] == [("clamp",), ("residual",), ("residual", "clamp"), ()]
    assert [step.op for step in model.explain().parts[0].steps] == ["linear_dynamic"] * 4  # type: ignore[union-attr]
    x = torch.randn(5, 6)
    x[3, 2] = torch.nan
    for isa in isa_names():
        twin = QuantizedModel(model.graph_module(), {}, isa)
        for given in (x, x[:3]):
            want = interpret_integers(model.graph_module(), (given,)).output
            assert_same_floats(twin(given).nan_to_num(nan=9.0), want.nan_to_num(nan=9.0))
    with torch.no_grad():
        assert torch.allclose(model(x[:3]), model.run_graph(x[:3]), rtol=0, atol=2**-20)
