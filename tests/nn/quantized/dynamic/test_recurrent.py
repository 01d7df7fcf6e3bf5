"""The dynamic LSTM, GRU and RNN: bit for bit against their definition, close to the float layers, called as those."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import qfx
from qfx.errors import ConversionError, InputError, QuantizationError, UnsupportedError
from qfx.nn.quantized import dynamic
from qfx.quantization import MinMaxObserver, QConfigDynamic, float16_dynamic_qconfig, per_tensor_dynamic_qconfig
from qfx.quantization import per_channel_dynamic_qconfig as per_channel
from tests.runtime import recurrent_reference

pytestmark = pytest.mark.inventory("S139")
AFFINE = QConfigDynamic(weight=MinMaxObserver.with_args(dtype=qfx.qint8, qscheme=qfx.per_tensor_affine))
KINDS = ("LSTM", "GRU", "RNN")
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in KINDS},
    **{f"{kind} of three layers": (kind, {"num_layers": 3}) for kind in KINDS},
    **{f"{kind} both ways": (kind, {"num_layers": 2, "bidirectional": True}) for kind in KINDS},
    **{f"{kind} without bias": (kind, {"bias": False}) for kind in KINDS},
    "RNN with relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM projected": ("LSTM", {"proj_size": 7, "num_layers": 2}),
    "LSTM projected both ways": ("LSTM", {"proj_size": 7, "num_layers": 2, "bidirectional": True}),
}


def layer(setting: str, qconfig: Any = per_channel, *, inputs: int = 10, hidden: int = 20, **more: Any) -> Any:
    kind, arguments = SETTINGS[setting]
    torch.manual_seed(1)
    made = getattr(nn, kind)(inputs, hidden, **arguments, **more).eval().requires_grad_(False)
    made.qconfig = qconfig
    return made


def quantized(mod: Any) -> Any:
    return getattr(dynamic, type(mod).__name__).from_float(mod)


def run_float(mod: Any, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it has no fast LSTM with projection
        return mod(*args)


def listed(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)


def states_for(mod: Any, batch: int | None, seed: int = 2) -> Any:
    """States before the first step, as the layer takes them."""
    count = mod.num_layers * (2 if mod.bidirectional else 1)
    sizes = (mod.proj_size or mod.hidden_size, mod.hidden_size)[: 2 if isinstance(mod, nn.LSTM) else 1]
    generator = torch.Generator().manual_seed(seed)
    made = tuple(torch.randn(count, *([batch] if batch else []), s, generator=generator).clamp(-1, 1) for s in sizes)
    return made if len(made) > 1 else made[0]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


def by_hand(q: Any, x: np.ndarray, hx: Any, sizes: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """All layers with the numpy reference of the runtime's step: results, and states after."""
    directions, given = 2 if q.bidirectional else 1, [h.numpy() for h in listed(hx)]
    after: list[list[np.ndarray]] = []
    for i in range(q.num_layers):
        constants: dict[str, np.ndarray] = {}
        for part, names in q._names(i).items():
            tensors = [q.state_dict()[n] for n in names]
            constants[part] = torch.cat(tensors).numpy()
            if tensors[0].dtype is torch.int8:
                rows = tensors[0].shape[:1]
                for end in ("_scale", "_zero_point"):
                    constants[part + end] = torch.cat([q.state_dict()[n + end].expand(rows) for n in names]).numpy()
        own = [g[i * directions : (i + 1) * directions] for g in given]
        x, *states = recurrent_reference.layer(q.step, x, own, sizes, constants, directions, q.per_row)
        after.append(states)
    return x, [np.concatenate(parts) for parts in zip(*after, strict=True)]


@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel, AFFINE, float16_dynamic_qconfig])
@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_the_definition_bit_for_bit(setting: str, qconfig: QConfigDynamic) -> None:
    mod = layer(setting, qconfig)
    q, x, hx = quantized(mod), torch.randn(6, 3, 10), states_for(mod, 3)
    y, after = q(x, hx)
    wanted, states = by_hand(q, x.reshape(18, 10).numpy(), hx, [3] * 6)
    assert np.array_equal(y.reshape(18, -1).numpy(), wanted)
    for ours, theirs in zip(listed(after), states, strict=True):
        assert np.array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
def test_is_close_to_the_float_layer(setting: str, given: bool) -> None:
    mod = layer(setting, inputs=40, hidden=64)
    q, x = quantized(mod), torch.randn(12, 4, 40)
    hx = (states_for(mod, 4),) if given else ()
    (y, after), (wanted, states) = q(x, *hx), run_float(mod, x, *hx)
    for ours, theirs in zip((y, *listed(after)), (wanted, *listed(states)), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype is torch.float32
        assert cosine(ours, theirs) >= 0.999


def test_a_contracting_rnn_stays_within_what_its_steps_add_up_to() -> None:
    mod = layer("RNN", inputs=16, hidden=24)
    for weight in (mod.weight_ih_l0, mod.weight_hh_l0):
        weight.div_(2 * weight.abs().sum(1).max())  # one step halves an error, since tanh' <= 1
    q, x = quantized(mod), torch.rand(40, 2, 16) * 2 - 1
    state = q.state_dict()
    error = torch.zeros(24)
    for name, largest in (("weight_ih_l0", x.abs().max()), ("weight_hh_l0", torch.tensor(1.0))):
        weight = state[name] * state[name + "_scale"][:, None]
        rounding = (getattr(mod, name) - weight).abs().sum(1) * largest
        error += rounding + (2 * largest / 255) * weight.abs().sum(1)
    assert float((q(x)[0] - mod(x)[0]).abs().max()) <= 2 * float(error.max()) + 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_float16_differs_by_the_rounding_of_the_weights(kind: str) -> None:
    mod = layer(kind, float16_dynamic_qconfig, inputs=40, hidden=64)
    q, rounded, x = quantized(mod), copy.deepcopy(mod), torch.randn(9, 2, 40)
    for parameter in rounded.parameters():
        if parameter.dim() == 2:
            parameter.copy_(parameter.half())
    # tanh and sigmoid are within 2^-21; sums of 104 products and 8 more time steps make of it less than 2^-16.
    assert float((q(x)[0] - rounded(x)[0]).abs().max()) < 2.0**-16


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])  # torch.ao has no dynamic RNN layer
def test_is_no_worse_than_torch_ao(kind: str) -> None:
    from torch.ao.quantization import quantize_dynamic

    mod = layer(kind, per_tensor_dynamic_qconfig, inputs=40, hidden=64)
    x = torch.randn(20, 4, 40)
    wanted, _ = mod(x)
    ours, _ = quantized(mod)(x)
    del mod.qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = quantize_dynamic(nn.Sequential(mod), {type(mod)})[0]
        assert type(peer) is not type(mod)
        theirs, _ = peer(x)
    # The weights are the same codes. Its activations have half as many (reduce_range), or as many: 5 % for luck.
    assert float((ours - wanted).square().mean()) <= 1.05 * float((theirs - wanted).square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_and_one_sequence_are_the_same_numbers(kind: str) -> None:
    mod = layer(f"{kind} both ways")
    q, x = quantized(mod), torch.randn(5, 1, 10)
    first = quantized(layer(f"{kind} both ways", batch_first=True))
    y, after = q(x)
    for module, given, shaped in ((first, x.transpose(0, 1), y.transpose(0, 1)), (q, x[:, 0], y[:, 0])):
        again, states = module(given)
        assert torch.equal(again, shaped)
        for ours, theirs in zip(listed(states), listed(after), strict=True):
            assert torch.equal(ours.reshape(-1), theirs.reshape(-1))
    wanted, states = mod(x[:, 0])
    assert q(x[:, 0])[0].shape == wanted.shape
    assert listed(q(x[:, 0])[1])[0].shape == listed(states)[0].shape


@pytest.mark.parametrize("sorted_already", [True, False])
@pytest.mark.parametrize("setting", ["LSTM both ways", "GRU both ways", "RNN both ways", "LSTM projected both ways"])
def test_packed_sequences(setting: str, sorted_already: bool) -> None:
    mod = layer(setting)
    lengths = [7, 4, 4, 1] if sorted_already else [4, 1, 7, 4]
    x = pack_sequence([torch.randn(n, 10) for n in lengths], enforce_sorted=sorted_already)
    q, hx = quantized(mod), states_for(mod, 4)
    y, after = q(x, hx)
    wanted, states = run_float(mod, x, hx)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, wanted.batch_sizes)
    assert cosine(y.data, wanted.data) >= 0.999
    for ours, theirs in zip(listed(after), listed(states), strict=True):
        assert ours.shape == theirs.shape
        assert cosine(ours, theirs) >= 0.999
    order = x.sorted_indices if x.sorted_indices is not None else torch.arange(4)
    given = tuple(h[:, order] for h in listed(hx))
    data, _ = by_hand(q, x.data.numpy(), given, x.batch_sizes.tolist())
    assert np.array_equal(y.data.numpy(), data)


def test_a_batch_of_equal_lengths_is_the_same_packed() -> None:
    q, x = quantized(layer("LSTM both ways")), torch.randn(6, 3, 10)
    y, _ = q(x)
    packed, _ = q(pack_padded_sequence(x, torch.tensor([6, 6, 6])))
    assert torch.equal(packed.data, y.reshape(18, -1))


def test_dropout_is_between_layers_and_for_training_only() -> None:
    q = quantized(layer("LSTM of three layers", dropout=0.5))
    x = torch.randn(6, 3, 10)
    plain = quantized(layer("LSTM of three layers"))(x)[0]
    assert torch.equal(q(x)[0], plain)
    torch.manual_seed(0)
    dropped, (h, c) = q.train()(x)
    assert not torch.equal(dropped, plain)
    assert h.shape == c.shape == (3, 3, 20)
    q.dropout = 0.0
    assert torch.equal(q(x)[0], plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("setting", ["LSTM both ways", "GRU", "RNN with relu", "LSTM projected"])
@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel])
def test_what_is_not_finite_gives_nan(setting: str, value: float, qconfig: QConfigDynamic) -> None:
    """A scale holds for a whole tensor, or for a row, and there is none: for what follows of the sequence."""
    q, x = quantized(layer(setting, qconfig)), torch.randn(4, 2, 10)
    states = [torch.zeros_like(h) for h in listed(q(x)[1])]
    states[0][:, 0, 1] = value
    y = q(x, tuple(states) if len(states) > 1 else states[0])[0].isnan()
    assert y.all(-1).tolist() == y.any(-1).tolist() == [[True, not q.per_row]] * 4
    x[2, 1, 3] = value
    y = q(x)[0].isnan()
    before = not q.per_row or q.bidirectional
    assert y.all(-1).tolist() == y.any(-1).tolist() == [[not q.per_row, t >= 2 or before] for t in range(4)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    q = quantized(layer("LSTM both ways", inputs=64, hidden=130))
    x = torch.randn(9, 5, 64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = q(x)[0]
        torch.set_num_threads(threads)
        assert torch.equal(q(x)[0], alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("setting", ["LSTM both ways", "GRU", "RNN with relu", "LSTM projected"])
@pytest.mark.parametrize("qconfig", [per_tensor_dynamic_qconfig, per_channel, float16_dynamic_qconfig])
def test_state_survives(setting: str, qconfig: QConfigDynamic) -> None:
    mod = layer(setting, qconfig)
    q, x = quantized(mod), torch.randn(4, 2, 10)
    y = q(x)[0]
    state = q.state_dict()
    entries = {n for n in state if not n.endswith(("_scale", "_zero_point"))}
    assert entries == {*mod.state_dict(), *(["input_per_row"] if q.dtype is qfx.qint8 else [])}
    assert all(type(t) is Tensor for t in state.values())
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    kind, arguments = SETTINGS[setting]
    fresh = getattr(dynamic, kind)(10, 20, **arguments, dtype=q.dtype)
    assert not torch.equal(fresh(x)[0], y)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    whole = io.BytesIO()
    torch.save(q, whole)
    whole.seek(0)
    copies = (copy.deepcopy(q), pickle.loads(pickle.dumps(q)), torch.load(whole, weights_only=False))
    for other in (fresh, *copies):
        assert torch.equal(other(x)[0], y)
    assert set(q.get_weight()) | set(q.get_bias()) == set(state) - {"input_per_row"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_sequence_does_not_depend_on_its_neighbours(setting: str) -> None:
    q, x, hx = quantized(mod := layer(setting)), torch.randn(6, 3, 10), states_for(mod, 3)
    x = x * torch.tensor([0.01, 1.0, 100.0])[:, None]
    y, after = q(x, hx)
    for i in range(3):
        own = tuple(h[:, i : i + 1] for h in listed(hx))
        alone, ends = q(x[:, i : i + 1], own if len(own) > 1 else own[0])
        assert torch.equal(alone, y[:, i : i + 1])
        for a, b in zip(listed(ends), listed(after), strict=True):
            assert torch.equal(a, b[:, i : i + 1])


def test_a_changed_weight_is_seen() -> None:
    q, x = quantized(layer("GRU")), torch.randn(4, 2, 10)
    y = q(x)[0]
    q.bias_ih_l0.add_(1.0)
    assert not torch.equal(q(x)[0], y)


def test_repr() -> None:
    assert repr(dynamic.LSTM(3, 4)) == "LSTM(3, 4, dtype=qfx.qint8)"
    shown = repr(dynamic.RNN(3, 4, 2, bias=False, nonlinearity="relu", dtype=torch.float16))
    assert shown == "RNN(3, 4, num_layers=2, bias=False, nonlinearity=relu, dtype=torch.float16)"


def test_mistakes_of_a_call() -> None:
    q = quantized(layer("LSTM"))
    x, h = torch.randn(4, 2, 10), torch.zeros(1, 2, 20)
    bad: list[tuple[Any, ...]] = [
        (torch.randn(4, 2, 9),),
        (torch.randn(10),),
        (x.double(),),
        (x, h),
        (x, (h, h[:, :1])),
    ]
    bad += [(torch.zeros(0, 2, 10),), ([1.0],), (x[:, 0], (h, h)), (x, (h, h.double()))]
    for arguments in bad:
        with pytest.raises(InputError):
            q(*arguments)
    with pytest.raises(UnsupportedError, match="gradient"):
        q(x.requires_grad_())[0].sum().backward()


def test_mistakes_of_a_module() -> None:
    with pytest.raises(ConversionError, match="GRU"):
        dynamic.LSTM.from_float(nn.GRU(3, 4))
    with pytest.raises(UnsupportedError, match="quint8"):
        dynamic.LSTM(3, 4, dtype=qfx.quint8)
    for arguments in ({"proj_size": 4}, {"dropout": 1.5}, {"num_layers": 0}):
        with pytest.raises(ConversionError):
            dynamic.LSTM(3, 4, **arguments)
    with pytest.raises(ConversionError, match="sigmoid"):
        dynamic.RNN(3, 4, nonlinearity="sigmoid")
    with pytest.raises(ConversionError):
        dynamic.GRU(3, 4, proj_size=2)
    q = dynamic.GRU(3, 4)
    with pytest.raises(QuantizationError, match="float16"):
        q.load_state_dict(dynamic.GRU(3, 4, dtype=torch.float16).state_dict())
    with pytest.raises(UnsupportedError):
        q.half()
    assert q.float() is q


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_empty_batch_has_empty_results(setting: str, batch_first: bool) -> None:
    mod = layer(setting, batch_first=batch_first)
    x = torch.randn((0, 5, 10) if batch_first else (5, 0, 10))
    want, states = run_float(mod, x)
    got, after = quantized(mod)(x)
    assert got.shape == want.shape
    assert [h.shape for h in listed(after)] == [h.shape for h in listed(states)]


def _packed(lengths: list[int]) -> PackedSequence:
    x = torch.randn(max(lengths), len(lengths), 5)
    return pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


def _inconsistent() -> dict[str, PackedSequence]:
    good = _packed([2, 4, 3])
    data, sizes, order, back = good
    return {
        "too few rows": PackedSequence(data[:-1], sizes, order, back),
        "too many rows": PackedSequence(torch.cat([data, data]), sizes, order, back),
        "rising": PackedSequence(data, sizes.flip(0), order, back),
        "zero": PackedSequence(data, torch.cat([sizes, torch.zeros(1, dtype=torch.int64)]), order, back),
        "negative": PackedSequence(data, torch.tensor([12, -3]), None, None),
        "floats": PackedSequence(data, sizes.float(), order, back),
        "a matrix": PackedSequence(data, sizes.reshape(1, -1), order, back),
        "not an order": PackedSequence(data, sizes, torch.tensor([0, 0, 1]), back),
        "out of range": PackedSequence(data, sizes, order, torch.tensor([0, 1, 3])),
        "too short an order": PackedSequence(data, sizes, order[:2], back[:2]),
        "not undone": PackedSequence(data, sizes, torch.tensor([1, 2, 0]), torch.tensor([1, 2, 0])),
        "one order": PackedSequence(data, sizes, None, torch.tensor([1, 2, 0])),
        "nothing": PackedSequence(data[:0], sizes[:0], None, None),
        "another width": PackedSequence(data[:, :3], sizes, order, back),
    }


@pytest.mark.parametrize("kind", _inconsistent())
@pytest.mark.parametrize("cls", [dynamic.LSTM, dynamic.GRU, dynamic.RNN])
def test_an_inconsistent_packed_sequence_is_refused(cls: type[nn.Module], kind: str) -> None:
    layer = cls(5, 4, bidirectional=True)
    with pytest.raises(InputError) as caught:
        layer(_inconsistent()[kind])
    assert caught.value.remedy
    layer(_packed([2, 4, 3]))
