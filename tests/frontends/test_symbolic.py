"""Capture: what a trace keeps, what becomes an island, and what is an error."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.errors import CaptureError
from qfx.frontends import capture, normalize
from qfx.ops import TABLE

X = torch.randn(2, 3, 8, 8)


class Gate(nn.Module):
    """Control flow on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.conv(x)
        return x


class Net(nn.Module):
    """A gate between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Conv2d(3, 3, 3), Gate(), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gate(self.first(x)))


def node_of(graph_module: fx.GraphModule, path: str) -> fx.Node:
    """The last node recorded in the module at ``path``."""
    return [node for node in graph_module.graph.nodes if node.meta["module_path"] == path][-1]


def agree(model: nn.Module, *inputs: Any) -> bool:
    """Whether the normalized model computes what the model computes."""
    normal = normalize(capture(model))
    with torch.no_grad():
        expected, actual = model.eval()(*copy.deepcopy(inputs)), normal(*copy.deepcopy(inputs))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    return True


def test_part_that_does_not_trace_becomes_an_island() -> None:
    captured = capture(Net())
    island = node_of(captured, "gate")
    assert island.op == "call_module"
    assert "control flow" in island.meta["island_reason"]
    assert "if x.sum() > 0:" in island.meta["island_reason"]
    assert agree(Net(), X)


def test_strict_names_module_line_and_remedy() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(Net(), strict=True)
    error = caught.value
    assert (error.where, error.what) == ("gate", "Gate can't be traced.")
    assert error.source is not None
    assert error.source.startswith("test_symbolic.py:")
    assert error.source.endswith("in forward: if x.sum() > 0:")
    assert error.remedy is not None
    assert "non_traceable_module_name" in error.remedy


def test_model_that_does_not_trace_is_an_error() -> None:
    with pytest.raises(CaptureError, match="the model itself"):
        capture(Gate())


def _length(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _iterate(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row in x])


def _assign(x: Tensor) -> Tensor:
    y = torch.relu(x)
    y.flatten(1)[:, 0] = 0
    return y


def _python_number(x: Tensor) -> Tensor:
    return x * float(x.mean())


class Calls(nn.Module):
    """A function as a submodule's forward."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = _Function(function)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x))


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "construct"),
    [(_length, "len()"), (_iterate, "iteration"), (_assign, "a tensor is ch"), (_python_number, "a Python number")],
)
def test_reason_names_the_construct(function: Callable[[Tensor], Tensor], construct: str) -> None:
    island = node_of(capture(Calls(function)), "inner")
    assert island.meta["island_reason"].startswith(construct)
    assert agree(Calls(function), X)


def test_non_traceable_modules_stay_whole() -> None:
    by_name = capture(Net(), non_traceable_module_name=["first"])
    assert node_of(by_name, "first").meta["island_reason"] == "named in non_traceable_module_name"
    by_class = capture(Net(), non_traceable_module_class=[nn.Conv2d])
    assert "Conv2d is in non_traceable_module_class" in node_of(by_class, "last").meta["island_reason"]
    assert node_of(normalize(by_class), "last").op == "call_module"


def test_the_model_is_not_changed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    before = copy.deepcopy(model.state_dict())
    normalize(capture(model))
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_eval_semantics_whatever_the_mode(training: bool) -> None:
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train(training)
    captured = capture(model)
    assert captured.meta["training"] is training
    assert agree(copy.deepcopy(model), X)


def test_nodes_know_their_module_and_source() -> None:
    captured = capture(Net(), non_traceable_module_name=["gate"])
    first = node_of(captured, "first")
    assert first.meta["module_class"] is nn.Conv2d
    assert first.meta["source"].startswith("test_symbolic.py:")
    assert "in forward: return self.last(self.gate(self.first(x)))" in first.meta["source"]
    assert node_of(normalize(captured), "first").meta["source"] == first.meta["source"]


class Reused(nn.Module):
    """One convolution twice, at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_reused_module_keeps_one_weight() -> None:
    normal = normalize(capture(Reused()))
    assert list(normal.state_dict()) == ["conv.weight", "conv.bias"]
    assert agree(Reused(), X)


class Containers(nn.Module):
    """ModuleList, ModuleDict, nested inputs, several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.heads = nn.ModuleDict({"a": nn.Conv2d(3, 1, 1), "b": nn.Identity()})

    def forward(self, inputs: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> dict[str, Any]:
        x = inputs["x"] + pair[0]
        for block in self.blocks:
            x = block(x)
        return {"heads": [head(x) for head in self.heads.values()], "pair": (pair[1], x)}


def test_containers_and_structures() -> None:
    assert agree(Containers(), {"x": X}, (X, X * 2))


class Optional(nn.Module):
    """Arguments with defaults."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0, *, bias: Tensor | None = None
    ) -> Tensor:
        if mask is not None:
            x = x * mask
        if bias is not None:
            x = x + bias
        return x * scale


def test_defaulted_arguments_are_fixed_unless_named() -> None:
    fixed = capture(Optional())
    assert fixed.meta["specialized"] == {"mask": None, "scale": 2.0, "bias": None}
    torch.testing.assert_close(normalize(fixed)(X), X * 2)
    with_mask = normalize(capture(Optional(), inputs=["mask"]))
    torch.testing.assert_close(with_mask(X, X > 0), X * (X > 0) * 2)


class Variadic(nn.Module):
    """``*args`` and ``**kwargs``."""

    def forward(self, *xs: Tensor, **named: Tensor) -> Tensor:
        return xs[0] + xs[1] * named["scale"]


def test_variadic_arguments() -> None:
    normal = normalize(capture(Variadic()))
    torch.testing.assert_close(normal(X, X, scale=X), X + X * X)


class OwnConv(nn.Conv2d):
    """Only chooses arguments."""

    def __init__(self) -> None:
        super().__init__(3, 4, 3, padding=1)


class ScaledConv(nn.Conv2d):
    """Computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class OwnNorm(nn.BatchNorm2d):
    """Its base's checks branch on the rank."""


def test_subclasses_of_layers() -> None:
    assert agree(nn.Sequential(OwnConv(), OwnNorm(4), ScaledConv(4, 2, 1)), X)
    normal = normalize(capture(nn.Sequential(OwnConv(), OwnNorm(4), ScaledConv(4, 2, 1))))
    assert not any("opaque_reason" in node.meta for node in normal.graph.nodes)


class Typed(nn.Module):
    """Branches on the type of its argument."""

    def forward(self, x: Tensor) -> Tensor:
        features = [x] if isinstance(x, Tensor) else x
        return torch.cat(features, 1)


def test_isinstance_sees_tensors() -> None:
    assert agree(Typed(), X)
    assert "isinstance" not in globals()


def test_forward_hooks_of_layers_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model[0].register_forward_hook(lambda module, args, output: output * 3)
    model[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    assert agree(model, X)


@pytest.mark.parametrize("deprecated", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_weight_norm_becomes_a_plain_weight(deprecated: bool) -> None:
    norm = nn.utils.weight_norm if deprecated else nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)))
    normal = normalize(capture(model))
    assert sorted(normal.state_dict()) == ["0.bias", "0.weight"]
    torch.testing.assert_close(normal(X), model(X))


def test_model_that_can_not_be_copied_is_an_error() -> None:
    model = nn.Conv2d(3, 3, 1)
    model.lock = threading.Lock()
    with pytest.raises(CaptureError, match="can't be copied"):
        capture(model)


def test_function_is_no_model() -> None:
    with pytest.raises(CaptureError, match=r"not an nn\.Module"):
        capture(F.relu)  # type: ignore[arg-type]


class InPlace(nn.Module):
    """A view of a tensor that is then changed in place."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(x * 1.0)


def _change_under_a_view(x: Tensor) -> Tensor:
    turned = x.transpose(2, 3)
    x.add_(1.0)
    return turned


def _change_through_a_view(x: Tensor) -> Tensor:
    x[:, :1].mul_(3.0)
    return x


@pytest.mark.parametrize("change", [_change_under_a_view, _change_through_a_view])
def test_change_visible_through_a_view_is_a_new_value(change: Callable[[Tensor], Tensor]) -> None:
    model = nn.Sequential(InPlace(change), nn.Conv2d(3, 2, 1))
    assert "island_reason" not in node_of(capture(model), "0").meta
    assert agree(model, X)


class Counter(nn.Module):
    """Changes its own buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.state.add_(x.mean())
        return x + self.state


def test_changed_buffer_is_an_island() -> None:
    island = node_of(capture(nn.Sequential(Counter())), "0")
    assert island.op == "call_module"


WHOLE = {
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), X),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), X),
    "Linear": (lambda: nn.Linear(8, 4), X),
    "ReLU": (nn.ReLU, X),
    "GELU": (nn.GELU, X),
    "LayerNorm": (lambda: nn.LayerNorm(8), X),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), X),
    "Softmax": (lambda: nn.Softmax(1), X),
    "Identity": (nn.Identity, X),
    "LSTM": (lambda: nn.LSTM(8, 5, batch_first=True), X[0]),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3), X),
    "Embedding": (lambda: nn.Embedding(4, 5), torch.tensor([1, 3])),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_single_layer_is_a_model(name: str) -> None:
    make, x = WHOLE[name]
    assert agree(make().eval(), x)


def test_parameters_of_a_single_layer_keep_their_paths() -> None:
    normal = normalize(capture(nn.Linear(8, 4)))
    assert set(normal.state_dict()) == {"weight", "bias"}
    (call,) = normal.graph.find_nodes(op="call_function", target=TABLE["linear"].fn)
    assert call.meta["module_path"] == ""
    assert call.meta["module_class"] is nn.Linear


def test_defaulted_inputs_of_a_single_layer_are_fixed_unless_given() -> None:
    lstm = nn.LSTM(8, 5, batch_first=True)
    names = lambda graph: [node.target for node in graph.find_nodes(op="placeholder")]  # noqa: E731
    assert names(capture(lstm).graph) == ["input"]
    assert capture(lstm).meta["specialized"] == {"hx": None}
    assert names(capture(lstm, inputs={"hx"}).graph) == ["input", "hx"]


class Factories(nn.Module):
    """Tensors made from the sizes of an input."""

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[0]) * torch.ones(x.shape[0]) + torch.full((x.shape[0],), 0.5)
        return x + rows[:, None, None, None] + torch.zeros(x.size(3)) + torch.eye(x.size(2), x.size(3))


def test_factories_of_traced_sizes_are_calls_of_the_graph() -> None:
    for _ in range(2):  # a trace leaves nothing behind that the next one meets
        assert agree(Factories(), X)
        assert agree(Factories(), torch.randn(5, 3, 6, 6))
    assert torch.ones(2).tolist() == [1.0, 1.0]


PLACES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "first": lambda table, n: table[:, :n],
    "last": lambda table, n: table[:, -n:],
    "behind an ellipsis": lambda table, n: table[..., 2 : n + 2],
    "every other": lambda table, n: table[:, 0 : 2 * n : 2],
    "of one dim": lambda table, n: table[0][:n],
    "with a new dim": lambda table, n: table[0, None, :n],
    "set": lambda table, n: _set(table + 1, slice(None, n), 0)[:, 1 : n + 1],
    "of which one is set": lambda table, n: _set(table + 1, n - 1, 0)[:, :n],
}


def _set(table: Tensor, where: Any, value: int) -> Tensor:
    table[:, where] = value
    return table


@pytest.mark.parametrize("name", PLACES)
def test_a_table_is_sliced_by_traced_lengths(name: str) -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_buffer("table", torch.arange(40.0)[None])

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + PLACES[name](self.table, x.shape[1]).unsqueeze(-1)

    net = Sliced().eval()
    for length in (1, 5, 9):
        assert agree(net, torch.randn(2, length, 4))


def test_a_single_layer_that_the_user_keeps_whole_stays_float() -> None:
    captured = capture(nn.Linear(8, 4), non_traceable_module_class=[nn.Linear])
    (call,) = captured.graph.find_nodes(op="call_module")
    assert call.meta["island_reason"] == "Linear is in non_traceable_module_class"
    assert agree(nn.Linear(8, 4), X)
