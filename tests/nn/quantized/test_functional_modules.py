from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
import qfx.nn.quantized as nnq
from qfx.errors import InputError, UncalibratedWarning, UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.ops.arithmetic import quantize
from qfx.quantization import convert, get_default_qconfig, prepare
from qfx.tensor import QTensor

A, B = QParams(0.05, 101, QDType.quint8), QParams(0.11, 30, QDType.quint8)
OUT = QParams(0.125, 90, QDType.quint8)


def codes(qparams: QParams, *shape: int) -> QTensor:
    return QTensor(torch.randint(0, 256, shape, dtype=torch.uint8), qparams)


def case(name: str, first: Any, second: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of operation ``name`` for two operands."""
    if name == "cat":
        return ([first, second, first],), {"dim": 1}
    if "scalar" in name:
        return (first, -1.75), {}
    if name == "matmul":
        return (first, second.transpose(-1, -2)), {}
    return (first, second), {}


NAMES = ["add", "add_scalar", "mul", "mul_scalar", "cat", "add_relu", "matmul"]
FLOAT = {
    "add": torch.add,
    "add_scalar": torch.add,
    "mul": torch.mul,
    "mul_scalar": torch.mul,
    "cat": torch.cat,
    "add_relu": lambda x, y: torch.relu(x + y),
    "matmul": torch.matmul,
}


@pytest.mark.inventory("S120", "S210")
@pytest.mark.parametrize("name", NAMES)
def test_float_operations_are_observed(name: str) -> None:
    module = nnq.FloatFunctional()
    args, kwargs = case(name, torch.randn(2, 5, 3), torch.randn(2, 5, 3))
    expected = FLOAT[name](*args, **kwargs)
    assert torch.equal(getattr(module, name)(*args, **kwargs), expected)
    module.qconfig = get_default_qconfig()
    prepared = prepare(module)
    assert torch.equal(getattr(prepared, name)(*args, **kwargs), expected)
    low, high = prepared.observer.min_val, prepared.observer.max_val
    assert (low, high) == (expected.min(), expected.max())
    made = convert(prepared)
    assert type(made) is nnq.QFunctional
    assert made.qparams.per_tensor() == prepared.activation_post_process.qparams().per_tensor()


@pytest.mark.inventory("S121", "S218")
@pytest.mark.parametrize("name", NAMES)
def test_integer_operations_are_within_one_quantum_of_float(name: str) -> None:
    module = nnq.QFunctional()
    module.set_qparams(OUT)
    x, y = codes(A, 3, 40, 20), codes(B, 3, 40, 20)
    args, kwargs = case(name, x, y)
    result = getattr(module, name)(*args, **kwargs)
    args, kwargs = case(name, x.dequantize(), y.dequantize())
    exact = FLOAT[name](*args, **kwargs)
    expected = quantize(exact, torch.tensor(OUT.scale), torch.tensor(OUT.zero_point), 0, 255)
    assert int((result.int_repr().long() - expected).abs().max()) <= 1
    assert result.qparams == OUT


@pytest.mark.inventory("S218")
@pytest.mark.parametrize("name", ["add", "mul", "add_relu"])
@pytest.mark.parametrize("shape", [(1, 1, 20), (20,), (3, 1, 1), ()])
def test_operands_broadcast(name: str, shape: tuple[int, ...]) -> None:
    module = nnq.QFunctional(OUT.scale, OUT.zero_point)
    x, y = codes(A, 3, 4, 20), codes(B, *shape)
    for first, second in ((x, y), (y, x)):
        result = getattr(module, name)(first, second)
        wide = getattr(module, name)(first.expand(3, 4, 20).contiguous(), second.expand(3, 4, 20).contiguous())
        assert torch.equal(result.int_repr(), wide.int_repr())


@pytest.mark.inventory("S218")
def test_torch_add_on_codes_points_to_the_module() -> None:
    with pytest.raises(UnsupportedError, match="QFunctional"):
        torch.add(codes(A, 3), codes(B, 3))


@pytest.mark.inventory("S121")
def test_from_float_state_copies_and_repr() -> None:
    source = nnq.FloatFunctional()
    source.qconfig = get_default_qconfig()
    prepared = prepare(source)
    prepared.add(torch.randn(50), torch.randn(50))
    module = nnq.QFunctional.from_float(prepared)
    other = nnq.QFunctional()
    other.load_state_dict(module.state_dict())
    x, y = codes(A, 5), codes(B, 5)
    expected = module.add(x, y)
    for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin.add(x, y).int_repr(), expected.int_repr())
    assert repr(module).startswith("QFunctional(")
    assert f"scale={module.scale}, zero_point={module.zero_point}" in repr(module)


@pytest.mark.inventory("S120", "S121")
class TestMisuse:
    @pytest.mark.parametrize("module", [nnq.FloatFunctional(), nnq.QFunctional()])
    def test_the_module_itself_is_not_called(self, module: nn.Module) -> None:
        with pytest.raises(UnsupportedError, match="is not called itself"):
            module(torch.randn(3))

    @pytest.mark.parametrize("name", NAMES)
    def test_float_tensors(self, name: str) -> None:
        args, kwargs = case(name, torch.randn(2, 5, 3), torch.randn(2, 5, 3))
        with pytest.raises(InputError, match="QFunctional got a float tensor"):
            getattr(nnq.QFunctional(), name)(*args, **kwargs)

    def test_an_instance_that_never_ran(self) -> None:
        class Adds(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.skip, self.unused = nnq.FloatFunctional(), nnq.FloatFunctional()
                self.qconfig = get_default_qconfig()

            def forward(self, x: Tensor) -> Tensor:
                return self.skip.add(x, x)

        prepared = prepare(Adds())
        prepared(torch.randn(4))
        with pytest.warns(UncalibratedWarning, match="where: unused"):
            convert(prepared)


@pytest.mark.inventory("S189")
def test_plus_on_codes_raises_and_names_the_module_to_use() -> None:
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.fc = qfx.quantization.QuantStub(), nn.Linear(4, 4)
            self.qconfig = get_default_qconfig()

        def forward(self, x: Tensor) -> Tensor:
            x = self.quant(x)
            return self.fc(x) + x

    prepared = prepare(Adds().eval())
    prepared(torch.randn(2, 4))
    with pytest.raises(UnsupportedError, match="FloatFunctional"):
        convert(prepared)(torch.randn(2, 4))
