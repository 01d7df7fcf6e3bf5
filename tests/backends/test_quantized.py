"""Engines: names of numerics; the kernels are the CPU's, and the integers everywhere the same."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
import qfx.nn.quantized.functional as qF
from qfx.backends import quantized
from qfx.eager import run
from qfx.errors import UnsupportedError
from qfx.ir.types import QParams
from qfx.quantization import QuantWrapper, convert, prepare
from qfx.runtime import isa_names
from qfx.tensor import convert as tensor_convert


@pytest.fixture(autouse=True)
def _engine() -> Iterator[None]:
    yield
    quantized.engine = None


@pytest.mark.inventory("S178", "S181")
def test_the_default_is_the_machines() -> None:
    assert qfx.backends.quantized.engine in qfx.backends.quantized.supported_engines
    on_arm = platform.machine().lower() in ("aarch64", "arm64")
    assert quantized.engine == ("qnnpack" if on_arm else "fbgemm")
    assert "none" not in quantized.supported_engines


@pytest.mark.inventory("S181")
def test_get_set_and_unknown_names() -> None:
    for name in quantized.supported_engines:
        qfx.backends.quantized.engine = name
        assert quantized.engine == name
    for name in ("fbgem", "none", "NoQEngine", 3):
        with pytest.raises(UnsupportedError, match="There is no engine") as caught:
            quantized.engine = name
        assert "'qnnpack'" in str(caught.value)
    assert quantized.engine == quantized.supported_engines[-1]
    quantized.engine = None
    assert quantized.engine in ("fbgemm", "qnnpack")


@pytest.mark.inventory("S177", "S179", "S180", "S181", "S203")
@pytest.mark.parametrize("name", quantized.supported_engines)
def test_default_qconfigs_follow_the_engine(name: str) -> None:
    own = qfx.get_default_qconfig(), qfx.get_default_qat_qconfig()
    quantized.engine = name
    assert qfx.get_default_qconfig() == qfx.get_default_qconfig(name)
    assert qfx.get_default_qat_qconfig() == qfx.get_default_qat_qconfig(name)
    assert qfx.get_default_qconfig_dict() == {"": qfx.get_default_qconfig(name)}
    weight, activation = qfx.get_default_qconfig().weight(), qfx.get_default_qconfig().activation()
    assert weight.qscheme.per_channel == (name != "qnnpack")
    assert (activation.quant_max == 127) == (name in ("fbgemm", "x86"))
    quantized.engine = None
    assert (qfx.get_default_qconfig(), qfx.get_default_qat_qconfig()) == own


def worst_case() -> tuple[qfx.QTensor, qfx.QTensor]:
    """Activations and weights whose products overflow 16 bits where two are added in them: 2 * 255 * 127."""
    x = qfx.QTensor(torch.full((2, 512), 255, dtype=torch.uint8), QParams(1.0, 0, qfx.quint8))
    w = qfx.QTensor(torch.full((3, 512), 127, dtype=torch.int8), QParams(1.0, 0, qfx.qint8))
    return x, w


@pytest.mark.inventory("S179", "S180")
@pytest.mark.parametrize("name", quantized.supported_engines)
def test_nothing_saturates_under_any_engine(name: str) -> None:
    quantized.engine = name
    x, w = worst_case()
    y = qF.linear(x, w, None, 512 * 127.0, 0)
    assert (y.int_repr() == 255).all()
    images, filters = qfx.QTensor(x.codes[..., None, None].expand(-1, -1, 4, 4), x.qparams), w[..., None, None]
    y = qF.conv2d(images, filters, None, scale=512 * 127.0, zero_point=0)
    assert (y.int_repr() == 255).all()


@pytest.mark.inventory("S179")
@pytest.mark.parametrize("isa", isa_names())
def test_a_converted_model_of_extreme_weights_does_not_overflow(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All products have one sign and the largest magnitude, and inputs reach twice the range that calibration found."""
    monkeypatch.setenv("QFX_ISA", isa)
    model = QuantWrapper(nn.Sequential(nn.Conv2d(32, 4, 3), nn.Flatten(), nn.Linear(64, 3))).eval()
    for layer in (model.module[0], model.module[2]):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    model.qconfig = qfx.get_default_qconfig("fbgemm")
    prepared, x = prepare(model), torch.ones(2, 32, 6, 6)
    prepared(x)
    converted = convert(prepared)
    for factor in (1.0, 2.0):  # integers of 127 and 254
        expected = model(factor * x)
        # A weight of 1 is 127 steps of 1 / 127.5: 0.4 % less in each of two layers; three roundings of 0.4 % each.
        assert (converted(factor * x) - expected).abs().max() <= 0.02 * expected.abs().max()


@pytest.mark.inventory("S182")
@pytest.mark.parametrize("engine", ["qnnpack", "fbgemm"])
def test_a_model_runs_the_same_under_an_engine_that_its_qconfig_was_not_made_for(engine: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.randn(2, 3, 8, 8)
    for backend in ("fbgemm", "qnnpack"):
        made = qfx.quantize_fx(model, {"": qfx.get_default_qconfig(backend)}, [x])
        want = made(x)
        quantized.engine = engine
        assert torch.equal(made(x), want)
        assert torch.equal(qfx.quantize_fx(model, {"": qfx.get_default_qconfig(backend)}, [x])(x), want)
    assert "any engine" in str(quantized.__doc__)


def results() -> list[Tensor]:
    """An op of every kernel family, on sizes that leave tails."""
    torch.manual_seed(0)

    def activation(*shape: int) -> qfx.QTensor:
        return qfx.quantize_per_tensor(torch.randn(shape), 0.05, 100, qfx.quint8)

    def weight(*shape: int) -> qfx.QTensor:
        return qfx.quantize_per_channel(torch.randn(shape), [0.03] * shape[0], [0] * shape[0], 0, qfx.qint8)

    x = activation(2, 19, 13, 11)
    signed = qfx.quantize_per_tensor(torch.randn(3, 77), 0.05, -20, qfx.qint8)
    return [
        qF.conv2d(x, weight(21, 19, 3, 3), torch.randn(21), 1, 1, scale=0.3, zero_point=90),
        qF.conv2d(x, weight(19, 1, 3, 3), None, 2, 1, groups=19, scale=0.2, zero_point=90),
        qF.linear(activation(5, 77), weight(33, 77), None, 0.2, 3),
        qF.add(x, activation(11), 0.1, 100),
        qF.mul(x, x, 0.1, 100),
        qF.layer_norm(x, [11], None, None, 1e-5, 0.03, 128),
        qF.instance_norm(x, None, None, 1e-5, 0.03, 128),
        qF.group_norm(activation(2, 12, 7, 5), 3, None, None, 1e-5, 0.03, 128),
        qF.conv1d(activation(2, 19, 23), weight(21, 19, 3), None, 2, 1, scale=0.3, zero_point=90),
        qF.conv3d(activation(1, 5, 7, 6, 9), weight(9, 5, 3, 2, 3), None, 1, 1, scale=0.3, zero_point=90),
        *(activation(2, 3, 77), activation(2, 3, 77).dequantize()),
        *(torch.relu(signed), torch.softmax(signed, -1), signed.dequantize()),
        *(torch.relu(x), torch.sigmoid(x), F.hardswish(x), qF.elu(x, 0.1, 100)),
        *(F.max_pool2d(x, 3, 2), F.avg_pool2d(x, 3, 2), F.adaptive_avg_pool2d(x, 5), x.mean((2, 3))),
        *(F.interpolate(x, scale_factor=1.5, mode="bilinear"), torch.cat([x, x]), F.pad(x, (1, 2, 3, 4))),
        *dynamic(nn.Linear(77, 33), torch.randn(5, 77)),
        *dynamic(nn.LSTM(21, 19, 2, bidirectional=True), torch.randn(6, 3, 21)),
        *(v for cell in CELLS for v in dynamic(cell(21, 19), torch.randn(3, 21))),
    ]


CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def dynamic(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The results of a float layer as a dynamic one, newly made."""
    return list(torch.utils._pytree.tree_leaves(qfx.quantize_dynamic(nn.Sequential(layer).eval())(x)))


@pytest.mark.inventory("S175", "S176", "S177")
def test_every_instruction_set_gives_the_same_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isa_names()[0] == "scalar"
    seen = []
    for isa in isa_names():
        monkeypatch.setenv("QFX_ISA", isa)
        run._without_constants.clear()
        tensor_convert._program.cache_clear()
        seen.append(results())
        loaded = {part.executable.isa for made in run._without_constants.programs() for part in made.segments}
        assert loaded == {isa}
    run._without_constants.clear()
    tensor_convert._program.cache_clear()
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


NEEDED = {
    "avx2": {"avx2", "fma", "f16c", "bmi1", "bmi2"},
    "avx512vnni": {"avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"},
    "neon": {"asimd"},
    "dotprod": {"asimddp"},
    "i8mm": {"asimddp", "i8mm"},
}
CPU = Path("/proc/cpuinfo")


@pytest.mark.inventory("S175")
@pytest.mark.skipif(not CPU.exists(), reason="reads Linux's list of the CPU's features")
def test_the_levels_of_this_cpu_are_there() -> None:
    found = set(CPU.read_text().split())
    assert {level for level, features in NEEDED.items() if features <= found} <= set(isa_names())


@pytest.mark.inventory("S183")
@pytest.mark.parametrize("call", [lambda q: q.to("cuda"), lambda q: q.to(torch.device("cuda", 1)), lambda q: q.cuda()])
def test_other_devices_are_refused(call: Any) -> None:
    with pytest.raises(UnsupportedError, match="cuda"):
        call(qfx.quantize_per_tensor(torch.randn(3), 0.1, 0, qfx.quint8))
