"""State with numbers that can't be: each tensor of each kind of state with each bad value."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx import quantization as q
from qfx.file.container import Section, pack, unpack
from qfx.file.sections import KNOWN
from qfx.ir.types import QParams

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().flatten(1))


def _static() -> nn.Module:
    return qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [X], adaptive_rounding=False)


def _dynamic() -> nn.Module:
    return qfx.quantize_fx(Net().eval(), {"": qfx.default_dynamic_qconfig}, example_inputs=(X,))


def _prepared() -> nn.Module:
    model = qfx.prepare_fx(Net().eval(), {"": qfx.get_default_qconfig()}, (X,))
    model(X)
    return model


def _trained(dict_of: Callable[[], Any] = qfx.get_default_qat_qconfig) -> nn.Module:
    model = qfx.prepare_qat_fx(Net(), {"": dict_of()}, (X,))
    model(X)
    return model.eval()


def _stubs() -> nn.Module:
    return nn.Sequential(q.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), q.DeQuantStub())


def _eager() -> nn.Module:
    model = _stubs().eval()
    model.qconfig = qfx.get_default_qconfig()
    observed = q.prepare(model)
    observed(X)
    return q.convert(observed)


def _eager_trained() -> nn.Module:
    model = _stubs().train()
    model.qconfig = qfx.get_default_qat_qconfig()
    fake = q.prepare_qat(model)
    fake(X)
    return fake.eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "static": _static,
    "dynamic": _dynamic,
    "prepared": _prepared,
    "trained": _trained,
    "eager": _eager,
    "eager trained": _eager_trained,
    "dynamic linear": lambda: q.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)).eval()),
    "dynamic LSTM": lambda: q.quantize_dynamic(nn.Sequential(nn.LSTM(8, 8)).eval(), {nn.LSTM}),
    "inside another": lambda: nn.ModuleDict({"inner": _static()}),
}


@functools.cache
def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[kind]()


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda t: t * torch.nan,
    "infinite": lambda t: torch.full_like(t, torch.inf),
    "zero": torch.zeros_like,
    "negative": lambda t: -t,
    "beyond float32": lambda t: torch.full_like(t, 1e300, dtype=torch.float64),
    "below float32": lambda t: torch.full_like(t, 1e-300, dtype=torch.float64),
    "one bad of many": lambda t: torch.cat([t.reshape(-1)[:-1], torch.tensor([torch.nan])]).reshape(t.shape),
}
ZERO_POINTS: dict[str, Callable[[Tensor], Tensor]] = {
    "2**32 more": lambda t: t.long() + 2**32,
    "2**32 less": lambda t: t.long() - 2**32,
    "out of range": lambda t: torch.full_like(t, 300, dtype=torch.int64),
    "below range": lambda t: torch.full_like(t, -999, dtype=torch.int64),
    "the greatest": lambda t: torch.full_like(t, 2**63 - 1, dtype=torch.int64),
    "no whole number": lambda t: t.double() + 0.5,
    "NaN": lambda t: t.double() * torch.nan,
}
INTEGERS: dict[str, Callable[[Tensor], Tensor]] = {
    "2**32 more": lambda t: t.long() + 2**32,
    "no whole number": lambda t: t.double() + 0.5,
    "NaN": lambda t: t.double() * torch.nan,
}
STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda t: t.double() * torch.nan,
    "beyond float32": lambda t: torch.full_like(t, 1e300, dtype=torch.float64),
}
LENGTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "too few": lambda t: t[:-1],
    "too many": lambda t: torch.cat([t, t]),
}
"""Of what is one a channel."""
WIDE: dict[str, Callable[[Tensor], Tensor]] = {"beyond float32": STATISTICS["beyond float32"]}


def bad_values(name: str, value: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """What the tensor of this name can't be."""
    last = name.rpartition(".")[2]
    if last.endswith("zero_point"):
        found = ZERO_POINTS
    elif last.endswith("scale"):
        found = SCALES
    elif value.dtype in (torch.int8, torch.int32):
        return INTEGERS
    elif last in ("min_val", "max_val", "first", "second"):
        found = STATISTICS
    elif value.dtype is torch.float32 and (last.startswith("bias") or last == "weight"):
        return WIDE
    else:
        return {}
    return {**found, **(LENGTHS if value.dim() and len(value) > 1 else {})}


@pytest.mark.parametrize("kind", MODELS)
def test_every_number_of_every_state(kind: str) -> None:
    model = model_of(kind)
    state, tried = model.state_dict(), 0
    for name, value in state.items():
        if kind == "eager trained" and name in ("1.weight", "1.bias"):
            continue  # parameters of the user's, loaded by torch
        for sort, make in bad_values(name, value).items():
            if kind == "eager trained" and sort in LENGTHS:
                continue  # a module by itself takes the state of one with other channels
            twin, tried = copy.deepcopy(model), tried + 1
            with pytest.raises((qfx.QuantizationError, qfx.ConversionError, RuntimeError)) as raised:
                twin.load_state_dict({**state, name: make(value)})
            shape = "size mismatch" in str(raised.value)  # torch's own, of a module of one length
            assert shape or "what to do" in str(raised.value), (name, sort)
            staged = isinstance(raised.value, qfx.ConversionError)  # it has no int8 weight any more
            assert staged or name.rpartition(".")[0] in str(raised.value), (name, sort)
            if not shape:
                assert all(torch.equal(a, b) for a, b in zip(twin.state_dict().values(), state.values(), strict=True))
    assert tried
    model.load_state_dict(state)


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_numbers_stored_wider_are_the_same_numbers(kind: str) -> None:
    model = model_of(kind)
    state = model.state_dict()
    quantized = [name for name in state if name.endswith(("scale", "zero_point", "min_val", "max_val"))]
    wide = {n: state[n].double() if state[n].is_floating_point() else state[n].long() for n in quantized}
    twin = copy.deepcopy(model)
    twin.load_state_dict({**state, **wide})
    for name, value in twin.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("assign", [True, False])
def test_whatever_way_a_number_gets_in_it_does_not_run(kind: str, assign: bool) -> None:
    state = model_of(kind).state_dict()
    for name, value in state.items():
        if not name.endswith(("scale", "zero_point")):
            continue
        for make in bad_values(name, value).values():
            model = copy.deepcopy(model_of(kind))
            owner = model.get_submodule(name.rpartition(".")[0])
            if assign:
                owner._buffers[name.rpartition(".")[2]] = make(value)
            elif make(value).shape == value.shape and make(value).dtype == value.dtype:
                value_of = owner._buffers[name.rpartition(".")[2]]
                value_of.copy_(make(value))
            else:
                continue
            with pytest.raises(qfx.QuantizationError, match=r"what to do"):
                model(X)


def _with_tensor(file: bytes, before: Tensor, after: Tensor) -> bytes:
    parts = {name: bytes(part) for name, part in unpack(memoryview(file), "it", KNOWN, ()).items()}
    old, new = before.numpy().tobytes(), after.numpy().tobytes()
    assert parts["tensors"].count(old) == 1
    parts["tensors"] = parts["tensors"].replace(old, new)
    return pack([Section(name, part) for name, part in parts.items()])


def test_a_file_is_checked_by_the_same_code() -> None:
    model: Any = model_of("static")
    made = io.BytesIO()
    qfx.save(model, made)
    weight = model.state_dict()["fc.weight_zero_point"]
    assert not bool(weight.any())
    scale = model.state_dict()["fc.weight_scale"]
    for bad in (-scale, scale * torch.nan, scale * 0):
        with pytest.raises(qfx.InputError, match=r"fc\.weight_scale holds .*, which is no positive, finite float32"):
            qfx.load(io.BytesIO(_with_tensor(made.getvalue(), scale, bad))).state_dict()


def test_a_pickled_model_is_checked_where_it_runs() -> None:
    model: Any = copy.deepcopy(model_of("static"))
    model.fc._buffers["weight_zero_point"] = model.fc.weight_zero_point + 2**32
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    with pytest.raises(qfx.QuantizationError, match=r"4294967296, which is not in -128\.\.127"):
        torch.load(file, weights_only=False)(X)


BAD_QPARAMS: dict[str, QParams] = {
    "NaN": QParams(float("nan"), 0, qfx.quint8),
    "an integer beyond float32": QParams(10**400, 0, qfx.quint8),  # type: ignore[arg-type]
    "beyond float32": QParams(1e300, 0, qfx.quint8),
    "below float32": QParams(1e-300, 0, qfx.quint8),
    "2**32 more": QParams(0.1, 2**32 + 3, qfx.quint8),
    "a float zero point": QParams(0.1, 3.5, qfx.quint8),  # type: ignore[arg-type]
    "true": QParams(True, 0, qfx.quint8),
    "a zero point that is true": QParams(0.1, True, qfx.quint8),
    "no axis": QParams((0.1, 0.2), (0, 0), qfx.quint8),
    "an axis too far": QParams((0.1, 0.2), (0, 0), qfx.quint8, 7),
    "a negative axis": QParams((0.1, 0.2), (0, 0), qfx.quint8, -1),
    "too few": QParams((0.1,), (0,), qfx.quint8, 0),
    "too few zero points": QParams((0.1, 0.2), (0,), qfx.quint8, 0),
    "a range beyond the dtype": QParams(0.1, 0, qfx.quint8, None, -1, 300),
    "a range backwards": QParams(0.1, 0, qfx.quint8, None, 200, 100),
}


@pytest.mark.parametrize("sort", BAD_QPARAMS)
def test_quantized_tensors(sort: str) -> None:
    codes = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(qfx.QuantizationError) as raised:
        qfx.QTensor(codes, BAD_QPARAMS[sort])
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("scale", "zero_point"),
    [
        (0.1, 3.5), (0.1, float("nan")), (0.1, 2**32 + 3), (0.1, torch.tensor(2**32 + 3)), (0.1, torch.tensor(2.5)),
        (torch.tensor([0.1, 0.2]), 0), (0.1, torch.tensor([1, 2])), ("a", 0), (0.1, "a"), (None, 0), (1e300, 0),
        (torch.tensor(1e300, dtype=torch.float64), 0), (1e-300, 0), (0.1, float("inf")), (10**400, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", ["per_tensor", "module", "layer"])
def test_numbers_given_by_hand(scale: Any, zero_point: Any, make: str) -> None:
    made: dict[str, Callable[[], Any]] = {
        "per_tensor": lambda: qfx.quantize_per_tensor(torch.ones(2), scale, zero_point, qfx.quint8),
        "module": lambda: qfx.nn.quantized.Quantize(scale, zero_point),
        "layer": lambda: qfx.nn.quantized.Linear(3, 4, scale=scale, zero_point=zero_point),
    }
    with pytest.raises((qfx.QuantizationError, qfx.ConversionError)) as raised:
        made[make]()
    assert raised.value.remedy


def test_a_range_of_one_end_is_no_range() -> None:
    model = copy.deepcopy(model_of("prepared"))
    state = model.state_dict()
    name = next(n for n in state if n.endswith("min_val"))
    for bad in (torch.inf, -torch.inf, 1e30):
        with pytest.raises(qfx.QuantizationError, match="are no range"):
            model.load_state_dict({**state, name: torch.full_like(state[name], bad)})


def test_weights_that_are_not_finite_do_not_become_integers() -> None:
    model: Any = copy.deepcopy(model_of("trained"))
    state = model.state_dict()
    model.load_state_dict({**state, "fc.weight": state["fc.weight"] * torch.nan})
    with pytest.raises(qfx.ConversionError, match="NaN or an infinity"):
        qfx.convert_fx(model)
