"""A call like one that passed every check skips them: it must come to what a model's first call comes to."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.models import QuantizedModel

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Fixed(nn.Module):
    """Holds for one batch size only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        return y.reshape(len(y), -1).mean(1)


class Mixed(nn.Module):
    """A program, operations of torch, and a program."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cumsum(torch.relu(self.conv(x)), 2).mean((2, 3)))


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "one program": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), {}),
    "fixed batch": (Fixed, {}),
    "parts in torch": (Mixed, {}),
    "integers": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1)), {"output_quantized_idxs": [0]}),
}


def emptied() -> Tensor:
    x = X.clone()
    x.untyped_storage().resize_(100)
    return x


def beyond() -> Tensor:
    x = torch.cat([X, X])[4:]
    x.untyped_storage().resize_(4 * X.numel())
    return x


GIVEN: dict[str, Callable[[], Any]] = {
    "the same": lambda: X,
    "other values": lambda: X * 3,
    "nan": lambda: X * torch.nan,
    "larger batch": lambda: torch.cat([X, X]),
    "wider": lambda: torch.cat([X, X], 3),
    "one item": lambda: X[0],
    "no item": lambda: X[:0],
    "other strides": lambda: X.to(memory_format=torch.channels_last),
    "gaps": lambda: torch.cat([X, X], 3)[..., ::2],
    "zero strides": lambda: X[:1].expand(4, 3, 6, 6),
    "overlapping": lambda: X.flatten().as_strided((4, 3, 6, 6), (2, 3, 1, 2)),
    "offset": lambda: torch.cat([X, X])[4:],
    "lazy negative": lambda: torch._neg_view(X),
    "imaginary part": lambda: torch.complex(X, X).conj().imag,
    "lazy zero": lambda: torch._efficientzerotensor(X.shape),
    "float64": X.double,
    "integers": lambda: X.to(torch.uint8),
    "complex": lambda: torch.complex(X, X),
    "meta": lambda: X.to("meta"),
    "sparse": X.to_sparse,
    "mkldnn": X.to_mkldnn,
    "parameter": lambda: nn.Parameter(X.clone()),
    "inference": torch.inference_mode()(X.clone),
    "shared": lambda: X.clone().share_memory_(),
    "from a buffer that is gone": lambda: torch.frombuffer(bytearray(X.numpy().tobytes()), dtype=torch.float32).view(
        4, 3, 6, 6
    ),
    "misaligned": lambda: torch.frombuffer(
        bytearray(b"." + X.numpy().tobytes()), dtype=torch.float32, offset=1
    ).view(4, 3, 6, 6),
    "storage cut short": emptied,
    "storage cut before the offset": beyond,
    "an array": X.numpy,
    "a number": lambda: 3.0,
    "nothing": lambda: None,
    "a list": lambda: [X],
}  # fmt: skip


@pytest.fixture(scope="module", params=list(NETS))
def models(request: pytest.FixtureRequest) -> tuple[QuantizedModel, bytes]:
    """A model that was called, and one that was not, as bytes."""
    net, more = NETS[request.param]
    torch.manual_seed(0)
    model = qfx.quantize_fx(net().eval(), {"": qfx.get_default_qconfig(), **more}, [X])
    stored = pickle.dumps(model)
    model(X)
    return model, stored


def outcome(model: nn.Module, given: Any) -> Any:
    try:
        return model(given).detach()
    except qfx.QfxError as error:
        return type(error), error.what, error.remedy


@pytest.mark.filterwarnings("ignore:The given buffer", "ignore:Sparse CSR")
@pytest.mark.parametrize("given", GIVEN.values(), ids=list(GIVEN))
def test_a_known_call_comes_to_what_a_first_one_does(
    models: tuple[QuantizedModel, bytes], given: Callable[[], Any]
) -> None:
    model, stored = models
    for _ in range(2):
        known, first = outcome(model, given()), outcome(pickle.loads(stored), given())
        assert type(known) is type(first)
        assert torch.equal(known, first) if isinstance(first, Tensor) else known == first


def test_checks_are_skipped_for_plain_tensors_only(
    models: tuple[QuantizedModel, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models[0]
    expected = model(X)

    def refuse(*args: Any) -> Any:
        raise LookupError

    monkeypatch.setattr(QuantizedModel, "_call", refuse)
    assert torch.equal(model(X.clone()), expected)
    with torch.no_grad():
        assert torch.equal(model(X.clone().requires_grad_()), expected)
    asking: list[Callable[[], Any]] = [
        lambda: model(X.clone().requires_grad_()),
        lambda: model(X.double()),
        lambda: model(torch.cat([X, X, X])),
        lambda: model(torch._neg_view(X)),
        lambda: torch.vmap(model)(X[None]),
        lambda: torch.func.functional_call(model, {k: v.clone() for k, v in model.named_buffers()}, (X,)),
    ]
    for ask in asking:
        with pytest.raises(LookupError):
            ask()


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "data": lambda weight: weight.data.zero_(),
    "numpy": lambda weight: weight.detach().numpy().fill(0),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("net", ["one program", "parts in torch"])
def test_a_write_that_torch_does_not_count_counts_once_the_state_is_loaded(net: str, write: str) -> None:
    torch.manual_seed(0)
    model = qfx.quantize_fx(NETS[net][0]().eval(), {"": qfx.get_default_qconfig()}, [X])
    assert not torch.equal(*model(X)[:2])
    name = next(name for name in reversed(model.state_dict()) if name.endswith(".weight"))
    WRITES[write](model.get_buffer(name))
    model.load_state_dict(model.state_dict())
    assert torch.equal(*model(X)[:2])
