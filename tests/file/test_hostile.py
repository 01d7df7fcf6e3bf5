"""Files that are damaged or made to harm: a QfxError each, and nothing is run, allocated or believed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import qfx
from tests.fuzz.hostile import places_of, resealed, saved
from tests.nets import small_net

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """Ops of the table, a module of torch, a method and a function outside the table."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lookup = small_net("ConvBnReluNet"), nn.Embedding(10, 10, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return torch.cumsum(x + self.lookup(x.argmax(1)), 1).cumprod(1)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [X], adaptive_rounding=False)


@pytest.fixture(scope="module")
def file(model: Any) -> bytes:
    return saved(model)


@pytest.fixture(scope="module")
def change_file(file: bytes) -> Any:
    """``resealed`` of the file, without the file in its repr, which hypothesis prints with an example that fails."""
    return lambda change: resealed(file, change)


def load(content: bytes) -> Any:
    return qfx.load(io.BytesIO(content))


def node(content: Any, **wanted: str) -> Any:
    """The record of the first node with this name, kind or target."""
    at = {"name": 0, "op": 1, "target": 2}
    return next(r for r in content["graph"] if all(r[at[k]] == v for k, v in wanted.items()))


def tensor_at(content: Any, tensors: bytearray, path: str) -> tuple[int, int]:
    """Where the bytes of the tensor at ``path`` lie: start and end."""
    state, parts = content["state"], path.split(".")
    for part in parts[:-1]:
        state = dict(state["_modules"]["dict"])[part]["module"][1]
    number = dict(state["_buffers"]["dict"])[parts[-1]]["tensor"]
    end = start = 0
    for dtype, shape, *_ in content["tensors"][: number + 1]:
        size = torch.Size(shape).numel() * getattr(torch, dtype).itemsize
        step = 64 if size >= 64 else 16
        start = -(-end // step) * step
        end = start + size
    return start, end


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_an_error(file: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(file) - 1))
    changed = bytearray(file)
    changed[position] ^= data.draw(st.integers(1, 255))
    if bytes(changed[:8]) == file[:8]:
        with pytest.raises(qfx.QfxError):
            load(bytes(changed))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_file_cut_short_is_an_error(file: bytes, data: st.DataObject) -> None:
    with pytest.raises(qfx.QfxError, match="damaged"):
        load(file[: data.draw(st.integers(8, len(file) - 1))])


_VALUES: list[Any] = [
    None, True, 0, 1, -1, 2**31, 2**64, -(2**70), 1e300, 0.5, "", "x", "op.conv", "op.reshape", "torch.einsum", "qint8",
    "aten.add.Tensor", "call_function", "torch.nn.LSTM", [], {}, [[]], {"tuple": []}, {"node": 0}, {"node": -1},
    {"tensor": 0}, {"tensor": 10**9}, {"float": "nan"}, {"dtype": "int8"},
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 10**6), value=st.sampled_from(_VALUES))
def test_what_a_sealed_file_says_is_refused_or_runs(change_file: Any, number: int, value: Any) -> None:
    def change(content: Any, _: bytearray) -> None:
        places = places_of(content)
        *path, last = places[number % len(places)]
        for key in path:
            content = content[key]
        content[last] = value

    try:
        loaded = load(change_file(change))
        loaded(X)
        str(loaded.report)
    except qfx.QfxError:
        pass


def _deep(content: Any, _: bytearray) -> bytes:
    return b'{"graph":' + b"[" * 200_000


def _nested(content: Any, _: bytearray) -> None:
    value: Any = 1
    for _ in range(60):
        value = {"tuple": [value]}
    content["info"] = value


def _huge_number(content: Any, _: bytearray) -> bytes:
    return b'{"graph":' + b"9" * 100_000 + b"}"


def _not_a_number(content: Any, _: bytearray) -> bytes:
    return b'{"graph":NaN}'


def _huge_tensor(content: Any, _: bytearray) -> None:
    content["tensors"][0][1] = [2**39, 2**39, 2**39]


def _many_dims(content: Any, _: bytearray) -> None:
    content["tensors"][0][1] = [1] * 1000


def _negative_size(content: Any, _: bytearray) -> None:
    content["tensors"][0][1] = [-1, -4]


def _unknown_op(content: Any, _: bytearray) -> None:
    node(content, target="op.conv")[2] = "op.convolve"


def _system(content: Any, _: bytearray) -> None:
    node(content, target="torch.cumsum")[2] = "os.system"


def _load(content: Any, _: bytearray) -> None:
    node(content, target="torch.cumsum")[2] = "torch.load"


def _from_file(content: Any, _: bytearray) -> None:
    node(content, target="torch.cumsum")[2] = "aten.from_file.default"


def _private_method(content: Any, _: bytearray) -> None:
    node(content, op="call_method")[2] = "__reduce__"


def _private_attribute(content: Any, _: bytearray) -> None:
    record = node(content, target="torch.cumsum")
    record[2], record[3]["tuple"][1] = "builtins.getattr", "__class__"


def _code_in_a_name(content: Any, _: bytearray) -> None:
    content["graph"][-2][0] = "x); import os; (x"


def _code_in_a_keyword(content: Any, _: bytearray) -> None:
    node(content, target="torch.cumsum")[4]["dict"].append(["dim=0); __import__('os'", 1])


def _code_in_an_input(content: Any, _: bytearray) -> None:
    node(content, op="placeholder")[2] = "x=__import__('os').abort()"


def _code_in_a_path(content: Any, _: bytearray) -> None:
    node(content, op="call_module")[2] = 'lookup"); __import__("os").abort(); ("'


def _users_class(content: Any, _: bytearray) -> None:
    dict(content["state"]["_modules"]["dict"])["lookup"]["module"][0] = "subprocess.Popen"


def _hook(content: Any, _: bytearray) -> None:
    content["state"]["_forward_hooks"] = {"dict": []}


def _method_replaced(content: Any, _: bytearray) -> None:
    content["state"]["__class__"] = "x"


def _later_operand(content: Any, _: bytearray) -> None:
    node(content, target="torch.cumsum")[3]["tuple"][0] = {"node": len(content["graph"]) - 1}


def _missing_tensor(content: Any, _: bytearray) -> None:
    node(content, op="get_attr")[2] = "nowhere.weight"


def _no_output(content: Any, _: bytearray) -> None:
    content["graph"].pop()


def _two_outputs(content: Any, _: bytearray) -> None:
    content["graph"].append(["output_1", "output", "output", {"tuple": [None]}, {"dict": []}, {}])


def _same_name(content: Any, _: bytearray) -> None:
    content["graph"][1][0] = content["graph"][0][0]


def _recorded_scale(content: Any, _: bytearray) -> None:
    next(r for r in content["graph"] if "qparams" in r[5])[5]["qparams"]["record"][1] = -1.0


def _scale(value: float) -> Callable[[Any, bytearray], None]:
    def change(content: Any, tensors: bytearray) -> None:
        path = next(r[2] for r in content["graph"] if r[1] == "get_attr" and r[2].endswith(".scale"))
        start, end = tensor_at(content, tensors, path)
        tensors[start:end] = torch.tensor(value).numpy().tobytes()

    return change


def _zero_point(content: Any, tensors: bytearray) -> None:
    path = next(r[2] for r in content["graph"] if r[1] == "get_attr" and r[2].endswith(".zero_point"))
    start, end = tensor_at(content, tensors, path)
    tensors[start:end] = torch.tensor(256).numpy().tobytes()


HOSTILE: dict[str, tuple[Callable[[Any, bytearray], Any], str]] = {
    "brackets without end": (_deep, "JSONDecodeError|RecursionError"),
    "values in each other": (_nested, "too deep"),
    "a number of 100,000 digits": (_huge_number, "ValueError"),
    "NaN": (_not_a_number, "NaN is no number"),
    "a tensor larger than memory": (_huge_tensor, "bytes or more where there are"),
    "a tensor of 1000 dims": (_many_dims, "no sensible shape"),
    "a negative size": (_negative_size, "no sensible shape"),
    "an unknown op": (_unknown_op, "op 'convolve' that this process does not have"),
    "os.system": (_system, "'os.system', which is no function that a model may call"),
    "torch.load": (_load, "'torch.load', which is no function"),
    "aten.from_file": (_from_file, "'aten.from_file.default', which is no function"),
    "a private method": (_private_method, "may not call the method '__reduce__'"),
    "a private attribute": (_private_attribute, "may not read the attribute"),
    "code in a name": (_code_in_a_name, "can't be a node named"),
    "code in a keyword": (_code_in_a_keyword, "arguments of 'cumsum' are malformed"),
    "code in an input": (_code_in_an_input, "can't be an input named"),
    "code in a path": (_code_in_a_path, "is no path in a model"),
    "a class that is no module": (_users_class, "'subprocess.Popen', which is no module"),
    "a hook": (_hook, "members of a module are malformed"),
    "another class": (_method_replaced, "members of a module are malformed"),
    "an operand that comes later": (_later_operand, "no node"),
    "a tensor that is not there": (_missing_tensor, "no tensor at 'nowhere.weight'"),
    "no output": (_no_output, "no output"),
    "two outputs": (_two_outputs, "can't be a node named 'output_1' here"),
    "two nodes of one name": (_same_name, "can't be a node named"),
    "a negative scale in a record": (_recorded_scale, "contradicts itself"),
    "a scale of NaN": (_scale(float("nan")), "which is no positive, finite float32"),
    "an infinite scale": (_scale(float("inf")), "which is no positive, finite float32"),
    "a scale of zero": (_scale(0.0), "which is no positive, finite float32"),
    "a zero point out of range": (_zero_point, "256, which is not in 0..255"),
}


@pytest.mark.parametrize("sort", HOSTILE)
def test_a_hostile_file_is_refused(file: bytes, sort: str) -> None:
    change, why = HOSTILE[sort]
    with pytest.raises(qfx.InputError, match=why) as raised:
        load(resealed(file, change))
    assert raised.value.remedy


def test_the_file_that_the_hostile_ones_are_made_from_loads(model: Any, file: bytes) -> None:
    assert torch.equal(load(resealed(file, lambda content, tensors: None))(X), model(X))
