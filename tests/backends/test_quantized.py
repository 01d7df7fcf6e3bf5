"""Engines: names of numerics; the kernels are the CPU's, and the integers everywhere the same."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import qfx
import qfx.nn.quantized.functional as qF
from qfx.backends import quantized
from qfx.eager import run
from qfx.errors import UnsupportedError
from qfx.ir.types import QParams
from qfx.runtime import isa_names
from qfx.tensor import convert


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


def results() -> list[qfx.QTensor]:
    """An op of every kernel family, on sizes that leave tails."""
    torch.manual_seed(0)

    def activation(*shape: int) -> qfx.QTensor:
        return qfx.quantize_per_tensor(torch.randn(shape), 0.05, 100, qfx.quint8)

    def weight(*shape: int) -> qfx.QTensor:
        return qfx.quantize_per_channel(torch.randn(shape), [0.03] * shape[0], [0] * shape[0], 0, qfx.qint8)

    x = activation(2, 19, 13, 11)
    return [
        qF.conv2d(x, weight(21, 19, 3, 3), torch.randn(21), 1, 1, scale=0.3, zero_point=90),
        qF.conv2d(x, weight(19, 1, 3, 3), None, 2, 1, groups=19, scale=0.2, zero_point=90),
        qF.linear(activation(5, 77), weight(33, 77), None, 0.2, 3),
        qF.add(x, activation(11), 0.1, 100),
        qF.mul(x, x, 0.1, 100),
        qF.layer_norm(x, [11], None, None, 1e-5, 0.03, 128),
        *(torch.relu(x), torch.sigmoid(x), F.hardswish(x), qF.elu(x, 0.1, 100)),
        *(F.max_pool2d(x, 3, 2), F.avg_pool2d(x, 3, 2), F.adaptive_avg_pool2d(x, 5), x.mean((2, 3))),
        *(F.interpolate(x, scale_factor=1.5, mode="bilinear"), torch.cat([x, x]), F.pad(x, (1, 2, 3, 4))),
    ]


@pytest.mark.inventory("S175", "S176")
def test_every_instruction_set_gives_the_same_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isa_names()[0] == "scalar"
    seen = []
    for isa in isa_names():
        monkeypatch.setenv("QFX_ISA", isa)
        run._without_constants.clear()
        convert._program.cache_clear()
        seen.append(results())
        loaded = {part.executable.isa for made in run._without_constants.values() for part in made.segments}
        assert loaded == {isa}
    run._without_constants.clear()
    convert._program.cache_clear()
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


@pytest.mark.inventory("S183")
@pytest.mark.parametrize("call", [lambda q: q.to("cuda"), lambda q: q.to(torch.device("cuda", 1)), lambda q: q.cuda()])
def test_other_devices_are_refused(call: Any) -> None:
    with pytest.raises(UnsupportedError, match="cuda"):
        call(qfx.quantize_per_tensor(torch.randn(3), 0.1, 0, qfx.quint8))
