"""A capture is of a call, not of ``forward``: hooks, ``__call__``, an instance's own forward; also at the root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import QfxError
from tests.covering import pairs

FRONTENDS = ["symbolic", "export", "torchscript"]
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.last(self.first(x).relu()) * scale


class Calls(Net):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) * 3


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def thrice(module: nn.Module, args: Any, result: Tensor) -> Tensor:
    return result * 3


def thrice_with_kwargs(module: nn.Module, args: Any, kwargs: Any, result: Tensor) -> Tensor:
    return result * 3


def bare(module: nn.Module, args: Any) -> Tensor:
    return args[0] * 3


def every(module: nn.Module, args: Any) -> Any:
    return tuple(arg * 3 for arg in args)


def every_with_kwargs(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return tuple(arg * 3 for arg in args), {**kwargs, "scale": 2.0}


def ordered(module: nn.Module) -> None:
    module.register_forward_hook(lambda module, args, result: result + 1)
    module.register_forward_hook(thrice, prepend=True)


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "forward": lambda m: m.register_forward_hook(thrice),
    "forward with kwargs": lambda m: m.register_forward_hook(thrice_with_kwargs, with_kwargs=True),
    "always": lambda m: m.register_forward_hook(thrice, always_call=True),
    "in order": ordered,
    "pre": lambda m: m.register_forward_pre_hook(every),
    "pre, bare": lambda m: m.register_forward_pre_hook(bare),
    "pre with kwargs": lambda m: m.register_forward_pre_hook(every_with_kwargs, with_kwargs=True),
    "pre and forward": lambda m: (m.register_forward_pre_hook(every), m.register_forward_hook(thrice)),
    "gradients": lambda m: m.register_full_backward_hook(lambda *args: None),
}


def layer() -> nn.Module:
    return nn.Conv2d(3, 4, 1)


@pytest.mark.parametrize(
    ("name", "kind", "inside", "frontend"),
    pairs(
        HOOKS, [Net, Calls, layer], [False, True], FRONTENDS, but=lambda *case: case[:2] != ("pre with kwargs", layer)
    ),
)
def test_a_hook_counts_at_the_root_as_inside(name: str, kind: Any, inside: bool, frontend: str) -> None:
    net = kind()
    HOOKS[name](net)
    whole = (Outer(net) if inside else net).eval()
    hooks = {key: list(value) for key, value in vars(net).items() if key.startswith("_forward")}
    expected = whole(X)
    prepared = qfx.prepare_fx(whole, {"": None}, X, frontend=frontend)
    torch.testing.assert_close(prepared(X), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prepared(X[:2]), expected[:2], rtol=1e-4, atol=1e-5)
    assert hooks == {key: list(value) for key, value in vars(net).items() if key.startswith("_forward")}
    assert torch.equal(whole(X), expected)


def trained(net: nn.Module) -> nn.Module:
    prepared = qfx.prepare_qat_fx(net, {"": qfx.get_default_qat_qconfig()}, X)
    prepared(X)
    return qfx.convert_fx(prepared.eval())


FLOWS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "fuse": lambda net: qfx.fuse_fx(net, X),
    "quantize": lambda net: qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [X]),
    "train": trained,
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", ["forward", "pre", "pre with kwargs"])
def test_every_flow_honours_the_hooks_of_the_root(name: str, flow: str) -> None:
    net = Net().eval()
    HOOKS[name](net)
    expected = net(X)
    assert (FLOWS[flow](net)(X) - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.fixture
def everywhere() -> Iterator[list[Any]]:
    handles: list[Any] = []
    yield handles
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("kind", [Net, nn.Conv2d])
def test_global_hooks_count(kind: type[nn.Module], frontend: str, everywhere: list[Any]) -> None:
    register = torch.nn.modules.module
    net = Net().eval()
    everywhere.append(
        register.register_module_forward_hook(lambda m, args, result: result * 3 if type(m) is kind else None)
    )
    everywhere.append(
        register.register_module_forward_pre_hook(lambda m, args: (args[0] + 1, *args[1:]) if type(m) is kind else None)
    )
    expected = net(X)
    try:
        prepared = qfx.prepare_fx(net, {"": None}, X, frontend=frontend)
    except QfxError:
        assert frontend == "torchscript"
    else:
        torch.testing.assert_close(prepared(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frontend", FRONTENDS[:2])
@pytest.mark.parametrize("inside", [False, True])
def test_a_forward_of_the_instance_counts(inside: bool, frontend: str) -> None:
    net = Net()
    net.forward = forward_of.__get__(net)  # type: ignore[method-assign]
    whole = (Outer(net) if inside else net).eval()
    prepared = qfx.prepare_fx(whole, {"": None}, X, frontend=frontend)
    torch.testing.assert_close(prepared(X), whole(X), rtol=1e-4, atol=1e-5)


def forward_of(self: Any, x: Tensor) -> Tensor:
    return self.first(x) * 5


class Branch(nn.Module):
    """Stays float: control flow that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


@pytest.mark.parametrize("frontend", FRONTENDS[:2])
def test_the_hooks_of_an_island_run_once(frontend: str) -> None:
    part = Branch()
    HOOKS["pre and forward"](part)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), part, nn.Conv2d(4, 4, 1)).eval()
    prepared = qfx.prepare_fx(net, {"": None}, X, frontend=frontend)
    torch.testing.assert_close(prepared(X), net(X), rtol=1e-4, atol=1e-5)
