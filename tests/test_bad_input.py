"""What users get wrong ends in the right result, or in one QfxError that names node, source line and remedy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.models import PreparedModel, QuantizedModel
from tests.nets import ResidualNet, settle

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(5))


class Small(nn.Module):
    """A head on a convolution: one line each, so that sources are easy to name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def quantized(small: nn.Module) -> QuantizedModel:
    return qfx.quantize_fx(small, DEFAULT, [X])


def told(
    kind: type[qfx.QfxError], call: Callable[[], Any], *, where: str | None = None, line: str | None = None
) -> str:
    """The error of ``call``: exactly of ``kind``, with a remedy, and with node and source line where there are any."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    assert error.remedy
    assert where is None or error.where == where
    assert line is None or (error.source is not None and line in error.source)
    return str(error)


# ---------------------------------------------------------------- the model


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.conv(x)
        return x


def test_a_model_that_does_not_trace_at_all() -> None:
    call = lambda: qfx.quantize_fx(Branching(), DEFAULT, [X])  # noqa: E731
    told(qfx.CaptureError, call, where="the model itself", line="if x.sum() > 0")


def test_a_function_instead_of_a_model() -> None:
    with pytest.raises(qfx.InputError, match=r"not an nn\.Module"):
        qfx.quantize_fx(F.relu, DEFAULT, [X])  # type: ignore[arg-type]


def test_converting_what_was_not_prepared(small: nn.Module) -> None:
    told(qfx.ConversionError, lambda: qfx.convert_fx(small))  # type: ignore[arg-type]


def test_a_model_on_another_device_is_refused_before_calibration(small: nn.Module) -> None:
    elsewhere = copy.deepcopy(small).to("meta")
    message = told(qfx.InputError, lambda: qfx.quantize_fx(elsewhere, DEFAULT, [X]), where="stem")
    assert "'stem.weight' is on meta" in message
    assert ".cpu()" in message


def test_a_prepared_model_on_another_device_can_come_back_for_conversion(small: nn.Module) -> None:
    prepared = qfx.prepare_fx(small, DEFAULT, (X,))
    prepared(X)
    told(qfx.InputError, lambda: qfx.convert_fx(copy.deepcopy(prepared).to("meta")))
    assert qfx.convert_fx(prepared.cpu())(X).shape == (4, 2)


def test_a_quantized_model_stays_on_the_cpu_in_its_dtypes(quantized: QuantizedModel) -> None:
    assert "can't move to meta" in told(qfx.UnsupportedError, lambda: quantized.to("meta"))
    for become, dtype in ((quantized.half, "float16"), (quantized.double, "float64"), (quantized.bfloat16, "bfloat16")):
        message = told(qfx.UnsupportedError, become)
        assert f"can't become torch.{dtype}" in message
        assert "move" not in message
    assert quantized.float() is quantized.cpu()


class Reused(nn.Module):
    """One convolution at two sizes, one linear layer twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.max_pool2d(F.relu(self.conv(x)), 2))
        return self.fc(self.fc(x.mean((2, 3))))


def test_a_module_used_twice_with_different_shapes_is_quantized_for_each_use() -> None:
    torch.manual_seed(0)
    model = Reused().eval()
    quantized = qfx.quantize_fx(model, DEFAULT, [X])
    assert [r.decision for r in quantized.report] == ["int8"] * 6
    assert {k for k in quantized.state_dict() if k.endswith("weight")} == {"conv.weight", "fc.weight"}
    with torch.no_grad():
        assert (quantized(X) - model(X)).abs().max() < 0.05 * model(X).abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite(small: nn.Module, value: float) -> None:
    broken = copy.deepcopy(small)
    broken.head.bias.data[1] = value
    told(qfx.ConversionError, lambda: qfx.quantize_fx(broken, DEFAULT, [X]), where="head", line="self.head(")
    broken = copy.deepcopy(small)
    broken.head.weight.data[0, 0] = value
    message = told(qfx.ConversionError, lambda: qfx.quantize_fx(broken, DEFAULT, [X]), where="head", line="self.head(")
    assert "'head.weight'" in message
    assert "calibration" not in message


def test_a_bias_too_large_for_32_bits_of_its_scale_stays_exact(small: nn.Module) -> None:
    large = copy.deepcopy(small)
    large.head.bias.data[1] = 1e9
    got = qfx.quantize_fx(large, DEFAULT, [X])(X)
    assert torch.allclose(got[:, 1], torch.full((4,), 1e9), rtol=2**-20)
    with torch.no_grad():
        assert (got[:, 0] - large(X)[:, 0]).abs().max() < 0.05


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize("empty", [[], (), iter([]), (x for x in ())], ids=["list", "tuple", "iterator", "generator"])
def test_an_empty_calibration(small: nn.Module, empty: Any) -> None:
    assert "empty" in told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, empty))


def test_no_calibration_at_all(small: nn.Module) -> None:
    told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT))
    told(qfx.UncalibratedWarning, lambda: qfx.convert_fx(qfx.prepare_fx(small, DEFAULT, (X,))), where="x, stem, mean")


@pytest.mark.parametrize("data", [X, {"x": X}, "batches", 3])
def test_a_calibration_that_is_no_iterable_of_batches(small: nn.Module, data: Any) -> None:
    told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_calibration_data_that_are_not_finite(small: nn.Module, value: float) -> None:
    bad = X.clone()
    bad[1, 2, 3, 4] = value
    assert "not finite" in told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, [X, bad]), where="x")


def test_a_part_that_overflows_in_float_is_named(small: nn.Module) -> None:
    large = copy.deepcopy(small)
    large.stem.weight.data *= 1e30
    bad = lambda: qfx.quantize_fx(large, DEFAULT, [X * 1e20])  # noqa: E731
    told(qfx.CalibrationError, bad, where="stem", line="F.relu(self.stem(x))")


def test_a_branch_that_calibration_never_reached_is_named(small: nn.Module) -> None:
    prepared = qfx.prepare_fx(small, DEFAULT, (X,))
    prepared.stem.activation_post_process.apply(qfx.disable_observer)
    prepared(X)
    told(qfx.CalibrationError, lambda: qfx.convert_fx(prepared), where="stem", line="F.relu(self.stem(x))")


def test_calibration_with_empty_batches_only_is_no_calibration(small: nn.Module) -> None:
    assert "all empty" in told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, [X[:0]]))


def test_an_empty_batch_among_others_changes_nothing(small: nn.Module, quantized: QuantizedModel) -> None:
    assert torch.equal(qfx.quantize_fx(small, DEFAULT, [X, X[:0]])(X), quantized(X))


@pytest.mark.parametrize(
    ("batch", "where"),
    [
        (X[:, :2], "stem"),
        (X.to(torch.uint8), "x"),
        (X.to("meta"), "x"),
        ((X, X, X), None),
        ({"image": X}, None),
        ({}, None),
        ("x", None),
    ],
    ids=["channels", "uint8", "device", "three", "names", "missing", "string"],
)
def test_a_calibration_batch_that_does_not_fit_is_named(small: nn.Module, batch: Any, where: str | None) -> None:
    line = "F.relu(self.stem(x))" if where == "stem" else None
    batches = [X, batch]
    message = told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, batches), where=where, line=line)
    assert "1" in message or "channels" in message


ARRAY = X.numpy()


@pytest.mark.parametrize(
    "data",
    [[ARRAY], [X, ARRAY], [(ARRAY, 3)], [{"x": ARRAY}], [X, (ARRAY, np.int64(3))]],
    ids=["first", "second", "with a label", "by name", "with a numpy label"],
)
def test_arrays_of_numpy_in_the_calibration(small: nn.Module, data: list[Any]) -> None:
    message = told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, data))
    assert f"Batch {len(data) - 1} holds a numpy.ndarray" in message
    assert "torch.from_numpy" in message


def test_one_array_of_numpy_as_calibration(small: nn.Module) -> None:
    assert "ndarray" in told(qfx.CalibrationError, lambda: qfx.quantize_fx(small, DEFAULT, ARRAY))


def test_a_numpy_label_beside_a_tensor_is_a_label(small: nn.Module, quantized: QuantizedModel) -> None:
    assert torch.equal(qfx.quantize_fx(small, DEFAULT, [(X, np.arange(4))])(X), quantized(X))


def test_an_array_of_numpy_as_input(small: nn.Module, quantized: QuantizedModel) -> None:
    for model in (quantized, qfx.prepare_fx(small, DEFAULT)):
        assert "torch.from_numpy" in told(qfx.InputError, lambda model=model: model(ARRAY))


def test_an_input_that_is_to_arrive_as_integers(small: nn.Module) -> None:
    model = qfx.quantize_fx(small, {**DEFAULT, "input_quantized_idxs": [0]}, [X])
    message = told(qfx.InputError, lambda: model(X))
    assert "must be torch.uint8, not torch.float32" in message
    assert "input_quantized_idxs" in message


def test_example_inputs_that_do_not_fit_are_named(small: nn.Module) -> None:
    call = lambda: qfx.prepare_fx(small, DEFAULT, (X[:, :2],))  # noqa: E731
    told(qfx.InputError, call, where="stem", line="F.relu(self.stem(x))")


# ---------------------------------------------------------------- inputs at run time


@pytest.mark.parametrize(
    "inputs",
    [
        (X[0],), (X[None],), (X.long(),), (X.bool(),), (X.to(torch.uint8),), (X.to(torch.complex64),), (X.to("meta"),),
        (), (X, X), ([X],), (np.zeros((4, 3, 12, 12), np.float32),), (None,), (X.to_sparse(),),
    ],
    ids=["rank 3", "rank 5", "int64", "bool", "uint8", "complex", "device", "none", "two", "list", "numpy", "None",
         "sparse"],
)  # fmt: skip
def test_inputs_that_do_not_fit(quantized: QuantizedModel, inputs: tuple[Any, ...]) -> None:
    told(qfx.InputError, lambda: quantized(*inputs))


@pytest.mark.parametrize("names", [("y",), ("x", "y")])
def test_inputs_by_names_that_do_not_exist(quantized: QuantizedModel, names: tuple[str, ...]) -> None:
    assert "'y'" in told(qfx.InputError, lambda: quantized(**dict.fromkeys(names, X)))


def test_an_input_by_position_and_by_name(quantized: QuantizedModel) -> None:
    assert "twice" in told(qfx.InputError, lambda: quantized(X, x=X))


@pytest.mark.parametrize("shape", [(4, 2, 12, 12), (4, 4, 12, 12), (4, 3, 0, 12)])
def test_shapes_that_a_layer_cannot_take_name_the_layer(quantized: QuantizedModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(qfx.InputError) as caught:
        quantized(torch.zeros(shape))
    assert caught.value.where == "stem"
    assert caught.value.source is not None
    assert "F.relu(self.stem(x))" in caught.value.source


def test_the_layer_is_known_by_the_step_that_the_error_carries_not_by_its_words(
    quantized: QuantizedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(inputs: Any) -> Any:
        raise qfx.InputError("It does not fit; 'head' is not to blame.", where="stem")

    compiled = copy.copy(quantized.compiled)
    compiled.__dict__.update(run=fail, passed={})
    monkeypatch.setitem(vars(quantized), "_compiled", compiled)
    with pytest.raises(qfx.InputError) as caught:
        quantized(X)
    assert caught.value.source is not None
    assert "self.stem(x)" in caught.value.source


def test_an_error_leaves_the_model_usable(quantized: QuantizedModel) -> None:
    before = quantized(X)
    for bad in (X[0], X[:, :2], X.long()):
        with pytest.raises(qfx.InputError):
            quantized(bad)
    assert torch.equal(quantized(X), before)


def test_a_batch_of_none(quantized: QuantizedModel) -> None:
    assert quantized(X[:0]).shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_dtypes_are_cast(quantized: QuantizedModel, dtype: torch.dtype) -> None:
    assert torch.equal(quantized(X.to(dtype)), quantized(X.to(dtype).float()))


def test_layouts_of_the_input_do_not_matter(quantized: QuantizedModel) -> None:
    want = quantized(X)
    assert torch.equal(quantized(X.contiguous(memory_format=torch.channels_last)), want)
    assert torch.equal(quantized(X.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)), want)
    assert torch.equal(quantized(torch.cat([X, X], 3)[..., :12]), want)


def test_nan_counts_as_zero_and_infinities_as_the_ends_of_the_range(quantized: QuantizedModel) -> None:
    assert torch.equal(quantized(torch.full_like(X, torch.nan)), quantized(torch.zeros_like(X)))
    assert torch.equal(quantized(torch.full_like(X, torch.inf)), quantized(torch.full_like(X, 1e9)))
    assert torch.equal(quantized(torch.full_like(X, -torch.inf)), quantized(torch.full_like(X, -1e9)))


def test_inputs_that_need_gradients_are_taken_and_who_asks_for_one_is_told(quantized: QuantizedModel) -> None:
    got = quantized(X.clone().requires_grad_(True))
    assert torch.equal(got, quantized(X))
    with pytest.raises(qfx.UnsupportedError, match="passes no gradient on"):
        got.sum().backward()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(x)[0].flip(0)] * len(x[:, 0, 0, 0].tolist()))


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.last = nn.Conv2d(3, 4, 1), Inner(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.stem(x)))


def test_a_failure_inside_a_float_island_names_it() -> None:
    quantized = qfx.quantize_fx(Outer(), DEFAULT, [X])
    assert quantized(X).shape == (4, 2, 12, 12)
    told(qfx.InputError, lambda: quantized(X[:0]), where="inner", line="self.last(self.inner(self.stem(x)))")


def test_a_model_in_other_floating_dtypes_is_quantized_as_in_float32(small: nn.Module) -> None:
    doubled = qfx.quantize_fx(copy.deepcopy(small).double(), DEFAULT, [X.double()])
    assert (doubled(X) - qfx.quantize_fx(small, DEFAULT, [X])(X)).abs().max() < 0.02


def test_an_instruction_set_that_does_not_exist(small: nn.Module) -> None:
    told(qfx.RuntimeLoadError, lambda: qfx.quantize_fx(small, DEFAULT, [X], isa="mmx"))


def test_errors_do_not_depend_on_example_inputs(small: nn.Module) -> None:
    """A dynamic model that was prepared without inputs learns its shapes from the first call that fits."""
    rows = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    model = qfx.quantize_fx(rows, {"": qfx.default_dynamic_qconfig})
    told(qfx.InputError, lambda: model(torch.zeros(3, 7)), where="0")
    got = model(torch.ones(3, 6, dtype=torch.float64))
    assert torch.equal(got, model(torch.ones(3, 6)))
    told(qfx.InputError, lambda: model(torch.ones(6)))


def test_a_settled_net_refuses_every_batch_of_the_wrong_rank() -> None:
    model = qfx.quantize_fx(settle(ResidualNet()), DEFAULT, [torch.randn(2, 3, 16, 16)])
    for shape in ((3,), (3, 16), (3, 16, 16), (1, 1, 3, 16, 16)):
        told(qfx.InputError, lambda shape=shape: model(torch.zeros(shape)))


def test_prepared_models_name_the_layer_too(small: nn.Module) -> None:
    prepared = qfx.prepare_fx(small, DEFAULT)
    assert isinstance(prepared, PreparedModel)
    told(qfx.InputError, lambda: prepared(X[:, :2]), where="stem", line="F.relu(self.stem(x))")
    told(qfx.InputError, prepared)
