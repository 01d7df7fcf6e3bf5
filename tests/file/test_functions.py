"""What a file may call: a list of functions, with arguments that sizes and dtypes can be. Nothing else gets in."""

from __future__ import annotations

import functools
import io
import operator
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.errors import RuntimeLoadError
from qfx.file import checked
from qfx.file.functions import CHANGING, FAMILIES, MADE, NAMES
from qfx.file.targets import function_name, function_named, functions
from tests.fuzz.driver import fuzz
from tests.fuzz.files import FUZZER, aten_names, is_admitted
from tests.fuzz.hostile import X, calling, resealed, saved, with_call

ATEN = torch.ops.aten
LAYER = ...
"""Stands for the result of the layer before."""


def load(file: bytes) -> Any:
    return qfx.load(io.BytesIO(file))


def test_what_a_file_may_name_is_a_list() -> None:
    """Of every operator of this torch, those get in whose name is listed: no gradient, no storage, no random access."""
    refused = []
    for name in aten_names():
        packet, _, overload = name.partition(".")
        named = f"aten.{packet}.{overload or 'default'}"
        base = next((b for p in ("linalg_", "fft_", "special_", "") if (b := packet.removeprefix(p)) in NAMES), None)
        if not is_admitted("call_function", named):
            refused.append(named)
        else:
            assert base is not None or packet in CHANGING, named
            assert "backward" not in packet, named
            assert "out" not in overload.split("_"), named
    assert len(refused) > 2000


@pytest.mark.parametrize(
    "name",
    [
        "aten.max_pool2d_with_indices_backward.default", "aten._reshape_alias.default", "aten.data_ptr.default",
        "aten.set_.source_Storage", "aten.resize_.default", "aten.from_file.default", "aten.add.out",
        "aten._unsafe_index.Tensor", "aten._weight_norm.default", "aten._fft_r2c.default", "aten.lstm.data",
        "aten.linalg_eigvals.default", "aten.remainder.int", "aten._embedding_bag.default", "aten.equal.out",
        "aten._native_multi_head_attention.default", "aten.record_stream.default", "aten.sparse_coo_tensor.size",
        "aten.special_hermite_polynomial_h.n_scalar", "torch._reshape_alias", "torch.lstm", "torch.from_file",
        "torch.load", "torch.Tensor.data_ptr", "torch.Tensor.__reduce__", "torch.Tensor.map_", "builtins.eval",
        "builtins.open", "operator.attrgetter", "operator.methodcaller", "math.comb", "prims.add.default", "aten", "",
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_refused(name: str) -> None:
    with pytest.raises(qfx.InputError, match="is no function that a model may call") as raised:
        load(with_call("call_function", name, (LAYER,), {}))
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["data_ptr", "resize_", "set_", "numpy", "__reduce__", "backward", "register_hook"])
def test_methods_not_on_the_list_are_refused(name: str) -> None:
    with pytest.raises(qfx.InputError, match="may not call the method"):
        load(with_call("call_method", name, (LAYER,), {}))


def test_names_and_functions_belong_together() -> None:
    for name, function in functions().items():
        assert function_named(function_name(function)) in (function, function_named(name))


def test_each_name_is_one_of_this_torch() -> None:
    have = {name.rpartition(".")[2] for name in functions()} | {name.partition(".")[0] for name in aten_names()}
    have |= {name.removeprefix(p) for name in have for p in ("linalg_", "fft_", "special_")}
    assert have >= NAMES
    listed = [name for names in FAMILIES.values() for name in names.split()] + sorted(MADE)
    assert len(listed) == len(set(listed))


HUGE: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any]]] = {
    "zeros": ("call_function", "torch.zeros", (2**40,), {}),
    "zeros of a list": ("call_function", "torch.zeros", ([2**20, 2**20],), {}),
    "zeros of several": ("call_function", "torch.zeros", (2**20, 2**20), {}),
    "aten.zeros": ("call_function", "aten.zeros.default", ([2**31, 4],), {}),
    "full": ("call_function", "torch.full", ([2**20, 2**20], 1.0), {}),
    "arange": ("call_function", "aten.arange.default", (2**31,), {}),
    "eye": ("call_function", "torch.eye", (2**20, 2**20), {}),
    "repeat": ("call_method", "repeat", (LAYER, 2**20, 2**20, 1, 1), {}),
    "expand": ("call_method", "expand", (LAYER, [2**31, 2, 4, 6, 6]), {}),
    "repeat_interleave": ("call_function", "torch.repeat_interleave", (LAYER, 2**40), {}),
    "pad": ("call_function", "torch.nn.functional.pad", (LAYER, [2**20, 0, 2**20, 0]), {}),
    "interpolate": ("call_function", "torch.nn.functional.interpolate", (LAYER, [2**20, 2**20]), {}),
    "one_hot": ("call_function", "torch.nn.functional.one_hot", (torch.tensor([1]), 2**40), {}),
    "new_zeros": ("call_method", "new_zeros", (LAYER, [2**20, 2**20]), {}),
    "fft": ("call_function", "torch.fft.fft", (LAYER, 2**40), {}),
    "an index": ("call_function", "torch.select", (LAYER, 2**62, 0), {}),
    "below zero": ("call_function", "torch.select", (LAYER, -(2**62), 0), {}),
    "by keyword": ("call_function", "torch.zeros", (), {"size": [2**20, 2**20]}),
}


@pytest.mark.parametrize("sort", HUGE)
def test_sizes_have_a_bound(sort: str) -> None:
    with pytest.raises(qfx.InputError, match=r"asks for a tensor of|is no size or index"):
        load(with_call(*HUGE[sort]))


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "why"),
    [
        ("aten.sum.dim_IntList", (LAYER, [1]), {"dtype": -2}, "as its dtype"),
        ("aten.clone.default", (LAYER,), {"memory_format": 77}, "as its memory_format"),
        ("aten.zeros.default", ([2],), {"layout": 1}, "as its layout"),
        ("aten.zeros.default", ([2],), {"pin_memory": True}, "pinned memory"),
        ("torch.zeros", (2,), {"device": "meta"}, "memory on 'meta'"),
        ("torch.zeros", (2,), {"device": "cuda:1"}, "memory on 'cuda:1'"),
        ("torch.relu", (LAYER,), {"out": LAYER}, "into another tensor"),
    ],
)
def test_arguments_are_of_the_types_that_an_operator_asks_for(
    target: str, args: tuple[Any, ...], kwargs: dict[str, Any], why: str
) -> None:
    with pytest.raises(qfx.InputError, match=why):
        load(with_call("call_function", target, args, kwargs))


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("torch.narrow", (LAYER, 1, 0, 2)),
        ("aten.slice.Tensor", (LAYER, 1, 0, 2**63 - 1)),
        ("torch.full", ([2, 2], 2.0**40)),
        ("torch.full", ([2, 2], 2**31 - 1)),
        ("torch.reshape", (LAYER, [-1])),
        ("aten.as_strided.default", (LAYER, [2, 2], [1, 2])),
    ],
)
def test_what_models_call_is_called(target: str, args: tuple[Any, ...]) -> None:
    assert isinstance(load(with_call("call_function", target, args, {}))(X), torch.Tensor)


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [([9, 9], [100, 100], 0), ([4], [1], 10_000), ([2], [-1], 0), ([2**20], [2**20], 0)]
)
def test_strides_do_not_leave_the_memory(size: list[int], stride: list[int], offset: int) -> None:
    with pytest.raises(qfx.InputError, match="does not run"):
        load(with_call("call_function", "torch.as_strided", (LAYER, size, stride, offset), {}))(X)


@pytest.mark.parametrize(("name", "power"), [("operator.pow", checked.power), ("operator.lshift", checked.left_shift)])
def test_numbers_stay_numbers(name: str, power: Any) -> None:
    assert function_named(name) is power
    assert power(3, 4) == getattr(operator, name.removeprefix("operator."))(3, 4)
    assert power(1, 2**40) if power is checked.power else True
    with pytest.raises(qfx.InputError, match="to the 1099511627776"):
        power(3, 2**40)


def recurrent(kind: str) -> tuple[Any, list[Any], list[Any]]:
    layer = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}[kind](3, 5, 2, bidirectional=True, batch_first=True)
    x, state = torch.randn(2, 4, 3), torch.zeros(4, 2, 5)
    states: Any = [state, state] if kind == "lstm" else state
    settings = [True, 2, 0.0, False, True, True]
    return layer, [x, states, list(layer._flat_weights)], settings


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_recurrent_layers_compute_the_same_behind_their_check(kind: str) -> None:
    layer, tensors, settings = recurrent(kind)
    with torch.no_grad():
        assert torch.equal(getattr(checked, kind)(*tensors, *settings)[0], layer(tensors[0])[0])


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("wrong", range(18))
def test_recurrent_layers_take_no_tensors_that_do_not_fit(kind: str, wrong: int) -> None:
    _, (x, states, weights), settings = recurrent(kind)
    if wrong < 16:
        weights[wrong] = weights[wrong][:-1]
    elif wrong == 16:
        states = [states[0], states[1][:, :1]] if kind == "lstm" else states[:1]
    else:
        x = x[..., :2]
    with pytest.raises(qfx.InputError, match="do not fit each other"):
        getattr(checked, kind)(x, states, weights, *settings)


class Sequence(nn.Module):
    """A layer that torch runs as it is."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fc, self.layer = nn.Linear(4, 4), layer

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(self.fc(x))


@pytest.mark.parametrize("layer", [nn.LSTM(4, 4), nn.GRU(4, 4), nn.RNN(4, 4), nn.LSTMCell(4, 4), nn.GRUCell(4, 4)])
@pytest.mark.parametrize("change", ["hidden_size", "input_size", "shape", "flat", "method"])
def test_layers_whose_kernels_believe_their_shapes_are_checked(layer: nn.Module, change: str) -> None:
    x = torch.randn(3, 4)
    whole = {"": qfx.get_default_qconfig(), "non_traceable_module_name": ["layer"]}
    file = saved(qfx.quantize_fx(Sequence(layer).eval(), whole, [x]))

    def harm(content: Any, _: bytearray) -> None:
        state = dict(content["state"]["_modules"]["dict"])["layer"]["module"][1]
        weights = [value["tensor"] for _, value in state["_parameters"]["dict"]]
        if change == "shape":
            content["tensors"][weights[0]][1].reverse()
            content["tensors"][weights[0]][1].insert(0, 1)
        elif change == "flat":
            state["_flat_weights"] = [{"tensor": weights[-1]}] * 4
        elif change == "method":
            state["forward"] = {"function": "torch.relu"}
        else:
            state[change] = 400

    if change == "flat" and "Cell" in type(layer).__name__:
        return
    with pytest.raises(qfx.InputError, match=r"are not those of a layer|brings a 'forward' of its own"):
        load(resealed(file, harm))


ENDS = ("", "_reverse")
MATRICES = [f"weight_{part}_l0{end}" for end in ENDS for part in ("ih", "hh")]
BIASES = [f"bias_{part}_l0{end}" for end in ENDS for part in ("ih", "hh")]
CHANGED = [
    (computed, name, change) for computed in ("int8", "float") for name in MATRICES for change in ("rank", "width")
]
CHANGED += [("float", name, "rank") for name in BIASES]  # the runtime counts what a bias holds


@functools.cache
def of_recurrent_ops(kind: type[nn.Module], computed: str) -> bytes:
    """The file of a model with a recurrent layer that is an op of the table."""
    rules = {"": qfx.get_default_qconfig(), "module_name": [("layer", None)] if computed == "float" else []}
    net = Sequence(kind(4, 6, bidirectional=True)).eval()
    return saved(qfx.quantize_fx(net, rules, [torch.randn(3, 4)], adaptive_rounding=False))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("computed", "name", "change"), CHANGED)
def test_recurrent_ops_take_no_weights_that_do_not_fit(
    kind: type[nn.Module], computed: str, name: str, change: str
) -> None:
    """Neither those of the runtime nor, in float, those of torch, whose kernels believe shapes."""

    def harm(content: Any, _: bytearray) -> None:
        state = dict(content["state"]["_modules"]["dict"])["layer"]["module"][1]
        tensors = dict(state["_parameters"]["dict"] + state["_buffers"]["dict"])
        shape = content["tensors"][tensors[name]["tensor"]][1]
        shape[:] = [1, *shape] if change == "rank" else [shape[0] // 2, shape[1] * 2]

    file = of_recurrent_ops(kind, computed)
    assert load(file)(torch.randn(3, 4))
    with pytest.raises((qfx.InputError, RuntimeLoadError), match=r"no model that makes sense|do(es)? not (run|take)"):
        load(resealed(file, harm))(torch.randn(3, 4))


@pytest.mark.slow
def test_operators_with_hostile_arguments_raise_or_run_in_a_process_that_lives() -> None:
    assert calling()
    outcome = fuzz(FUZZER, 10.0, 0)
    assert not outcome.failures, outcome.failures[0].text
