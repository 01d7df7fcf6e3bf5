"""Whatever can be quantized is refused by ``qfx.save``, in words, or loads with equal outputs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.file.functions import ATTRIBUTES
from tests.nets import NETS, small_net

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """An int8 layer, and what a function and a module make of its result."""

    def __init__(self, function: Callable[..., Any], module: nn.Module | None = None, name: str = "part") -> None:
        super().__init__()
        self.conv, self.function, self.names = nn.Conv2d(3, 8, 1), function, (name,)
        if module is not None:
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        parts = [self._modules[name] for name in self.names if name in self._modules]
        return self.function(*parts, self.conv(x))


def _tokens(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2)


def _pooled(y: Tensor) -> Tensor:
    return y.mean((2, 3))


def _calls(part: Any, y: Tensor) -> Any:
    return part(y)


def _calls_on_tokens(part: Any, y: Tensor) -> Any:
    return part(_tokens(y))


def _calls_on_indices(part: Any, y: Tensor) -> Any:
    return part(y.argmax(1).flatten(1))


def _attends(part: Any, y: Tensor) -> Any:
    return part(_tokens(y), _tokens(y), _tokens(y))


def _of_two(part: Any, y: Tensor) -> Any:
    return part(_tokens(y), _tokens(y) + 1)


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "sort": lambda y: y.sort(-1).values,
    "sort as it is": lambda y: torch.sort(y, 1),
    "topk": lambda y: y.topk(2, -1).values + y.topk(2, -1)[1],
    "kthvalue": lambda y: y.kthvalue(1, 1).indices,
    "max": lambda y: y.max(1).indices,
    "cummax": lambda y: torch.cummax(y, 1).values,
    "median": lambda y: y.median(-1).values,
    "mode": lambda y: y.mode(-1).indices,
    "aminmax": lambda y: torch.aminmax(y).max,
    "frexp": lambda y: torch.frexp(y).mantissa,
    "slogdet": lambda y: torch.linalg.slogdet(y).logabsdet,
    "qr": lambda y: torch.linalg.qr(y).R,
    "new_zeros": lambda y: y + y.new_zeros(1),
    "new_full": lambda y: y * y.new_full((8, 1, 1), 0.5),
    "arange": lambda y: y * torch.arange(y.shape[-1], device=y.device, dtype=y.dtype),
    "as_strided": lambda y: y.as_strided((2, 2), (1, 2)),
    "as_strided from an offset": lambda y: torch.as_strided(y, (2, 2), (1, 2), 3),
    "changed in place": lambda y: y.cumsum(1).clamp_(0, 1),
    "filled": lambda y: y.new_empty(2, 2).fill_(3.0) + 1,
    "unique": lambda y: torch.unique((y > 0).long()),
    "one_hot": lambda y: F.one_hot(y.argmax(1), 8),
    "einsum": lambda y: torch.einsum("bchw,bkhw->bckh", y, y),
    "rfft": lambda y: torch.fft.rfft(y).abs(),
    "stft": lambda y: torch.stft(y.flatten(1), 16, return_complex=True).abs(),
    "grid_sample": lambda y: F.grid_sample(y, torch.zeros(2, 4, 4, 2), align_corners=False),
    "cdist": lambda y: torch.cdist(_tokens(y), _tokens(y)),
    "roll": lambda y: y.roll(1, 2).rot90(1, [2, 3]).flip(1),
    "unfold": lambda y: F.fold(F.unfold(y, 2, stride=2), (8, 8), 2, stride=2),
    "scatter": lambda y: y.scatter(1, torch.zeros(2, 1, 8, 8).long(), 1.0),
    "gather": lambda y: y.gather(1, torch.zeros(2, 1, 8, 8).long()),
    "containers": lambda y: {"a": y, "b": [y, (y, None, 1)]},
    "dtypes": lambda y: y.to(torch.float64).sum().item() + y.half().float(),
    "complex": lambda y: torch.complex(y, y).angle(),
    "views of complex": lambda y: torch.view_as_complex(y.reshape(-1, 2)).real,
    "norms": lambda y: F.normalize(y, dim=1) + torch.linalg.vector_norm(y, dim=1, keepdim=True),
    "inverse": lambda y: torch.linalg.inv(y @ y.mT + torch.eye(8)),
    "bucketize": lambda y: torch.bucketize(y, torch.tensor([0.0, 1.0])),
    "bicubic": lambda y: F.interpolate(y, scale_factor=1.5, mode="bicubic"),
    "antialias": lambda y: F.interpolate(y, size=(4, 4), mode="bilinear", antialias=True),
    "bits": lambda y: (y.long() & 1) | (y.long() << 1) ^ 3,
    "truth": lambda y: ~(y > 0) ^ (y < 1),
    "nonzero": lambda y: (y > 0).nonzero(),
    "std_mean": lambda y: torch.std_mean(y, 1),
    "quantile": lambda y: torch.quantile(y, 0.5, dim=1),
    "attention": lambda y: F.scaled_dot_product_attention(_tokens(y), _tokens(y), _tokens(y), is_causal=True),
    "kron": lambda y: torch.kron(y[0, 0], y[0, 0]),
    "meshgrid": lambda y: torch.stack(torch.meshgrid(y[0, 0, 0], y[0, 0, 1], indexing="ij")),
}
LAYERS: dict[str, tuple[Callable[..., Any], Callable[[], nn.Module]]] = {
    "MultiheadAttention": (_attends, lambda: nn.MultiheadAttention(8, 2, batch_first=True)),
    "MultiheadAttention with all": (_attends, lambda: nn.MultiheadAttention(8, 2, 0, False, True, True, 8, 8)),
    "TransformerEncoderLayer": (_calls_on_tokens, lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "TransformerEncoder": (
        _calls_on_tokens,
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0, "gelu", batch_first=True), 2),
    ),
    "TransformerDecoder": (_of_two, lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)),
    "Transformer": (_of_two, lambda: nn.Transformer(8, 2, 1, 1, 16)),
    "LSTM": (_calls_on_tokens, lambda: nn.LSTM(8, 6, 2, bidirectional=True)),
    "LSTM with projection": (_calls_on_tokens, lambda: nn.LSTM(8, 6, proj_size=3)),
    "GRU": (_calls_on_tokens, lambda: nn.GRU(8, 6, batch_first=True)),
    "RNN": (_calls_on_tokens, lambda: nn.RNN(8, 6, nonlinearity="relu")),
    "LSTMCell": (lambda part, y: part(_pooled(y)), lambda: nn.LSTMCell(8, 6)),
    "GRUCell": (lambda part, y: part(_pooled(y)), lambda: nn.GRUCell(8, 6)),
    "RNNCell": (lambda part, y: part(_pooled(y)), lambda: nn.RNNCell(8, 6)),
    "Embedding": (_calls_on_indices, lambda: nn.Embedding(9, 4, padding_idx=0)),
    "EmbeddingBag": (_calls_on_indices, lambda: nn.EmbeddingBag(9, 4)),
    "Bilinear": (_of_two, lambda: nn.Bilinear(8, 8, 3)),
    "BatchNorm2d": (_calls, lambda: nn.BatchNorm2d(8, track_running_stats=False)),
    "InstanceNorm2d": (_calls, lambda: nn.InstanceNorm2d(8, affine=True)),
    "GroupNorm": (_calls, lambda: nn.GroupNorm(2, 8)),
    "LayerNorm": (_calls, lambda: nn.LayerNorm((8, 8))),
    "RMSNorm": (_calls, lambda: nn.RMSNorm(8)),
    "LocalResponseNorm": (_calls, lambda: nn.LocalResponseNorm(2)),
    "LPPool2d": (_calls, lambda: nn.LPPool2d(2, 2)),
    "AdaptiveMaxPool2d": (_calls, lambda: nn.AdaptiveMaxPool2d(2, return_indices=True)),
    "Unfold": (_calls, lambda: nn.Unfold(2)),
    "CircularPad2d": (_calls, lambda: nn.CircularPad2d(1)),
    "Upsample": (_calls, lambda: nn.Upsample(scale_factor=2, mode="bicubic")),
    "ModuleDict": (lambda part, y: part["a"](y), lambda: nn.ModuleDict({"a": nn.Conv2d(8, 8, 1)})),
    "ParameterList": (lambda part, y: y * part[0], lambda: nn.ParameterList([nn.Parameter(torch.ones(8, 1, 1))])),
    "CosineSimilarity": (_of_two, nn.CosineSimilarity),
    "weight_norm": (_calls, lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 1))),
    "ConvTranspose1d": (_calls_on_tokens, lambda: nn.ConvTranspose1d(64, 4, 3)),
}
_OF_SEVERAL = {"MultiheadAttention", "MultiheadAttention with all", "LSTM", "LSTM with projection", "GRU", "RNN"}
_OF_SEVERAL |= {"LSTMCell", "AdaptiveMaxPool2d"}
"""Layers that return tuples."""
NAMED = (
    "(", ")", "{x}", "}", "'", "it's", "a b", "a/b", "a-b", "#", "%s", "a;b", "été", "日本", "1", "_", "__x__", "None1",
    "(lambda: 1)()", "{0}", "@", "self", "args", "state", "model", "node",
)  # fmt: skip
REFUSED: dict[str, tuple[Callable[..., Any], Callable[[], nn.Module] | None, str]] = {
    "a loss": (lambda part, y: part(_pooled(y), torch.tensor([1, 2])), nn.CrossEntropyLoss, "CrossEntropyLoss"),
    "random windows": (lambda part, y: part(y).sum() * 0, lambda: nn.FractionalMaxPool2d(2, 4), "FractionalMaxPool2d"),
    "eigenvalues": (torch.linalg.eigvals, None, "eigvals"),
    "a polynomial": (lambda y: torch.special.hermite_polynomial_h(y, 3), None, "hermite_polynomial_h"),
    "a huge tensor": (lambda y: y.new_zeros(()).expand(2**20, 2**20)[:1, :1], None, "1099511627776 elements"),
}


def _quantized(net: nn.Module, **options: Any) -> Any:
    torch.manual_seed(0)
    return qfx.quantize_fx(net.eval(), DEFAULT, [X], adaptive_rounding=False, **options)


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor):
        return ours.dtype == theirs.dtype and torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(_equal(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, (list, tuple)):
        return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return bool(ours == theirs)


def _comes_back(model: Any) -> None:
    file = io.BytesIO()
    qfx.save(model, file)
    file.seek(0)
    assert _equal(qfx.load(file)(X), model(X))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_torch_runs_come_back(name: str) -> None:
    _comes_back(_quantized(Net(FUNCTIONS[name])))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_torch_runs_come_back(name: str) -> None:
    function, module = LAYERS[name]
    _comes_back(_quantized(Net(function, module())))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "ModuleDict"])
def test_layers_that_torch_runs_before_an_int8_layer_come_back(name: str) -> None:
    function, module = LAYERS[name]

    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.layer, self.behind = nn.Conv2d(3, 8, 1), module(), nn.LazyLinear(3)

        def forward(self, x: Any) -> Any:
            result = function(self.layer, self.conv(x))
            return self.behind(result[0] if name in _OF_SEVERAL else result)

    net = Before()
    net(X)
    _comes_back(_quantized(net))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*FUNCTIONS, *LAYERS])
def test_what_an_export_holds_comes_back(name: str) -> None:
    function, module = LAYERS[name] if name in LAYERS else (FUNCTIONS[name], lambda: None)
    _comes_back(_quantized(Net(function, module()), frontend="export"))


@pytest.mark.parametrize("net", NETS)
def test_networks_come_back(net: str) -> None:
    model = qfx.quantize_fx(small_net(net), DEFAULT, [torch.randn(2, 3, 16, 16)], adaptive_rounding=False)
    file = io.BytesIO()
    qfx.save(model, file)
    file.seek(0)
    x = torch.randn(2, 3, 16, 16)
    assert _equal(qfx.load(file)(x), model(x))


@pytest.mark.parametrize("name", NAMED)
def test_modules_of_any_name_come_back(name: str) -> None:
    _comes_back(_quantized(Net(_calls, nn.Sequential(nn.Conv2d(8, 4, 1), nn.LPPool2d(2, 2)), name)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sort", REFUSED)
def test_what_does_not_load_is_not_written(tmp_path: Path, sort: str) -> None:
    function, module, why = REFUSED[sort]
    model = _quantized(Net(function, module() if module else None))
    path = tmp_path / "model.qfx"
    path.write_bytes(b"what was there")
    with pytest.raises(qfx.ConversionError, match=why) as raised:
        qfx.save(model, path)
    assert raised.value.remedy
    assert raised.value.where or raised.value.source
    assert path.read_bytes() == b"what was there"
    assert [each.name for each in tmp_path.iterdir()] == ["model.qfx"]


def test_the_attributes_of_what_torch_returns_are_those_that_a_file_reads() -> None:
    for result in (torch.sort(X, 1), torch.slogdet(torch.eye(2)), torch.linalg.qr(torch.eye(2)), torch.aminmax(X)):
        assert set(type(result).__match_args__) <= ATTRIBUTES
    assert not any(name.startswith("_") for name in ATTRIBUTES)
