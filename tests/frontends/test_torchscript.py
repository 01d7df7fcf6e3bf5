"""TorchScript to a graph: what is computed while capturing, what the graph keeps, what it refuses and how."""

import copy
import io
import warnings
from collections.abc import Callable
from typing import Optional

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.errors import CaptureError
from qfx.frontends.torchscript import capture, module_classes
from tests.nets import NETS, small_net

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

X = torch.randn(2, 4, 8, 8)


def reload(model: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The model as another process without its Python source would load it."""
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    return torch.jit.load(file)


FORMS: dict[str, Callable[[nn.Module, Tensor], torch.jit.ScriptModule]] = {
    "scripted": lambda net, x: torch.jit.script(net),
    "traced": torch.jit.trace,
    "loaded": lambda net, x: reload(torch.jit.script(net)),
    "loaded trace": lambda net, x: reload(torch.jit.trace(net, x)),
    "frozen": lambda net, x: torch.jit.freeze(torch.jit.script(net)),
    "frozen trace": lambda net, x: torch.jit.freeze(torch.jit.trace(net, x)),
    "loaded frozen": lambda net, x: reload(torch.jit.freeze(torch.jit.script(net))),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_net_computes_the_same(name: str, form: str) -> None:
    net, x = small_net(name), torch.randn(2, 3, 32, 32)
    captured = capture(FORMS[form](net, x))
    other = torch.randn(3, 3, 32, 32)  # a batch size of its own
    with torch.no_grad():
        torch.testing.assert_close(captured(other), net(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["scripted", "traced", "loaded", "loaded trace"])
def test_parameters_keep_their_paths(form: str) -> None:
    net = small_net("MobileNet")
    captured = capture(FORMS[form](net, torch.randn(2, 3, 32, 32)))
    used = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(captured.state_dict()) == used
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in captured.state_dict().items())
    assert {key for key, _ in captured.named_parameters()} == {key for key, _ in net.named_parameters()}


@pytest.mark.parametrize("form", ["frozen", "frozen trace"])
def test_frozen_constants_keep_the_names_of_the_parameters(form: str) -> None:
    net = small_net("ResidualNet")
    captured = capture(FORMS[form](net, torch.randn(2, 3, 32, 32)))
    layers = [name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert set(captured.state_dict()) == {f"{name}.{last}" for name in layers for last in ("weight", "bias")}
    paths = {node.meta["module_path"] for node in captured.graph.nodes if "conv" in node.name or "linear" in node.name}
    assert paths == set(layers)


def test_constants_of_a_loaded_frozen_model_are_named_by_their_part() -> None:
    frozen = FORMS["loaded frozen"](small_net("ConvBnReluNet"), torch.randn(2, 3, 32, 32))
    captured = capture(frozen)
    assert set(captured.state_dict()) == {
        f"{layer}.{name}" for layer in ("conv2d_0", "conv2d_1", "linear_0") for name in ("weight", "bias")
    }


def test_nothing_is_shared_with_the_model() -> None:
    model = torch.jit.script(small_net("ConvBnReluNet"))
    before = copy.deepcopy(model.state_dict())
    captured = capture(model)
    for value in captured.state_dict().values():
        value.zero_()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


class Tied(nn.Module):
    """A block under two names, and one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again, self.last.weight = self.first, self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.first(x)))


def test_a_module_under_two_paths_has_the_first() -> None:
    captured, x = capture(torch.jit.script(Tied())), torch.randn(3, 4)
    assert "again.weight" not in captured.state_dict()
    assert captured.first.weight is captured.last.weight
    assert captured(x).shape == (3, 4)


def test_nodes_know_module_class_and_line() -> None:
    for form in ("scripted", "loaded", "traced", "loaded trace"):
        captured = capture(FORMS[form](small_net("ResidualNet"), torch.randn(2, 3, 32, 32)))
        (project,) = [n for n in captured.graph.nodes if n.op == "call_function" and n.meta["module_path"] == "project"]
        assert project.meta["module_class"] is nn.Conv2d, form
        assert project.meta["source"].startswith("nets.py:"), form
        assert project.meta["source"].endswith("in forward: x = F.relu(self.bn2(self.conv2(x)) + self.project(x))")


def test_classes_come_from_the_names_in_the_archive() -> None:
    model = reload(torch.jit.script(Tied()))
    assert module_classes(model) == {"": Tied, "first": nn.Linear, "last": nn.Linear, "again": nn.Linear}


class Calls(nn.Module):
    """A function as forward, on a model with a layer and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale, self.steps = nn.Conv2d(4, 4, 1), 0.5, 3
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.ReLU()])
        self.branches = nn.ModuleDict({"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(4, 2, 1)})
        self.register_buffer("shift", torch.randn(4, 1, 1))


class Lists(Calls):
    """Lists and loops."""

    def forward(self, x: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for i in range(1, self.steps):
            parts.append(x * i + self.shift)
        for layer in self.layers:
            x = layer(x)
        parts.extend([branch(x) for branch in self.branches.values()])
        k = 0
        while k < 2:
            parts[k] = parts[k] - float(k)
            k += 1
        return torch.cat(parts[::-1], 1)


class Dicts(Calls):
    """Dicts, tuples and nested results."""

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        found: dict[str, Tensor] = {}
        for name, branch in self.branches.items():
            found[name] = branch(x)
        if "a" in found:
            found["a"] = found["a"] + 1
        left, right = torch.chunk(x, 2, 1)
        return found, [left, right]


class Shapes(Calls):
    """Arithmetic on shapes."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b, c // 2, 2, h * w).transpose(1, 2).reshape(b, -1, h, w)
        y = F.interpolate(x[:, :, : h // 2, 1:-1], size=x.shape[-2:])
        return y.flatten(1).view(x.size(0), -1, x.size(-1))


class Checks(Calls):
    """Checks that raise, and switches that are constant."""

    def forward(self, x: Tensor, mask: Optional[Tensor] = None, gain: float = 2.0) -> Tensor:  # noqa: UP045
        if x.dim() != 4:
            raise ValueError(f"expected 4 dims, got {x.dim()}")
        assert x.size(1) == 4, "four channels"
        if mask is not None:
            x = x * mask
        if self.training or self.scale > 1:
            x = x + 100
        return F.relu(F.dropout(x * gain, 0.5, self.training), inplace=True)


def _halve(x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = F.max_pool2d(x, 2)
    return F.layer_norm(x, x.shape[2:])


class Functions(Calls):
    """A function of the user's, and methods."""

    def twice(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))

    def forward(self, x: Tensor) -> Tensor:
        return _halve(self.twice(x), 2) + _halve(x, 1).mean([2, 3], keepdim=True)


class InPlace(Calls):
    """Changes in place that a graph of values can hold."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y += x
        y.mul_(2.0).clamp_(-1.0, 1.0)
        return y


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


class Dtypes(Calls):
    """Dtypes, which TorchScript numbers: in functions, methods, constants and arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        y = F.softmax(x, dim=1, dtype=torch.float32) + F.log_softmax(x, dim=1, dtype=torch.float64).float()
        y = y + F.softmin(x, dim=1, dtype=torch.float32) + torch.softmax(x, 1, dtype=torch.float32)
        y = _cast(y.to(torch.float64), torch.float32) + x.sum(dim=[2, 3], keepdim=True, dtype=self.dtype)
        y = y * torch.full([4, 1, 1], 2.0, dtype=torch.float32) + torch.arange(8, dtype=y.dtype)
        assert y.dtype == torch.float32, "float32"
        if y.dtype != x.dtype:
            raise ValueError("another dtype")
        return y + torch.zeros_like(y, dtype=torch.float32) + y.new_ones([4, 1, 1], dtype=self.dtype)


SCRIPTED = (Lists, Dicts, Shapes, Checks, Functions, InPlace, Dtypes)


@pytest.mark.parametrize("form", ["scripted", "loaded", "traced", "frozen", "loaded frozen"])
@pytest.mark.parametrize("kind", SCRIPTED)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_python_around_the_tensors_is_resolved(kind: type[Calls], form: str) -> None:
    net = kind().eval()
    captured = capture(FORMS[form](net, X) if form != "traced" else torch.jit.trace(net, X, strict=False))
    for x in (X, torch.randn(1, 4, 8, 8)):
        with torch.no_grad():
            torch.testing.assert_close(captured(x.clone()), net(x.clone()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_it_is_captured_as_in_evaluation(training: bool) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).eval()
    net[1].running_mean.normal_()
    captured = capture(torch.jit.script(copy.deepcopy(net).train(training)))
    assert captured.meta["training"] is training
    with torch.no_grad():
        torch.testing.assert_close(captured(X), net(X))


def test_defaulted_arguments_are_fixed_unless_named() -> None:
    model = reload(torch.jit.script(Checks().eval()))
    fixed = capture(model)
    assert fixed.meta["specialized"] == {"mask": None, "gain": 2.0}
    assert [node.target for node in fixed.graph.find_nodes(op="placeholder")] == ["x"]
    named = capture(model, inputs=["mask"])
    torch.testing.assert_close(named(X, X > 0), F.relu(X * (X > 0) * 2))


class Gate(nn.Module):
    """Control flow on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.conv(x)
        return x


class AsksDtype(nn.Module):
    """Control flow on a dtype."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return x * 2
        return x


class AsksFloating(nn.Module):
    """Control flow on what kind of dtype there is."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch.is_floating_point(x) else x


class Turns(nn.Module):
    """A loop as long as a dim."""

    def forward(self, x: Tensor) -> Tensor:
        for i in range(x.size(0)):
            x = x + i
        return x


class Item(nn.Module):
    """A number from a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.mean())


class Counter(nn.Module):
    """A buffer that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.state.add_(x.mean())
        return x + self.state


class Assigned(nn.Module):
    """An attribute that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return x * self.count


@torch.jit.ignore
def _in_python(x: Tensor) -> Tensor:
    return x.flip(0)


class CallsPython(nn.Module):
    """A call that TorchScript leaves to Python."""

    def forward(self, x: Tensor) -> Tensor:
        return _in_python(x)


class Raises(nn.Module):
    """Never returns."""

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("abstract")


class Between(nn.Module):
    """A part between two convolutions."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(4, 4, 1), part, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x)))


REFUSED = {
    Gate: ("control flow that depends on a tensor's values", "if x.sum() > 0:"),
    AsksDtype: ("control flow that depends on a tensor's dtype", "if x.dtype == torch.float32:"),
    AsksFloating: (
        "control flow that depends on a tensor's dtype",
        "return x * 2 if torch.is_floating_point(x) else x",
    ),
    Turns: ("number of iterations", "for i in range(x.size(0)):"),
    Item: ("a Python number", "return x * float(x.mean())"),
    Counter: ("in place", "self.state.add_(x.mean())"),
    Assigned: ("assignment to the module's attribute count", "self.count = self.count + 1"),
    CallsPython: ("a call back into Python", "return _in_python(x)"),
    Raises: ("an exception that the model always raises", 'raise NotImplementedError("abstract")'),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_strict_names_module_line_construct_and_remedies(kind: type[nn.Module]) -> None:
    construct, line = REFUSED[kind]
    with pytest.raises(CaptureError) as caught:
        capture(torch.jit.script(Between(kind())), strict=True)
    error = caught.value
    assert (error.where, error.what) == ("part", f"{kind.__name__} can't be captured.")
    assert construct in str(error.why)
    assert error.source is not None
    assert error.source.startswith("test_torchscript.py:")
    assert error.source.endswith(f"in forward: {line}")
    assert "non_traceable_module_name" in str(error.remedy)


@pytest.mark.parametrize("kind", [k for k in REFUSED if k is not Raises])
def test_what_a_graph_can_not_hold_stays_whole(kind: type[nn.Module]) -> None:
    net = Between(kind()).eval()
    captured = capture(torch.jit.script(net))
    (island,) = captured.graph.find_nodes(op="call_module")
    assert island.target == "part"
    assert REFUSED[kind][0] in island.meta["island_reason"]
    with torch.no_grad():
        torch.testing.assert_close(captured(X), torch.jit.script(net)(X))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_is_all_of_it_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(CaptureError, match="the model itself"):
        capture(torch.jit.script(kind()))


def test_a_file_without_source_still_names_the_line() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(reload(torch.jit.script(Gate())))
    assert str(caught.value.source).endswith("in forward: if x.sum() > 0:")


def test_modules_stay_whole_by_name_and_class() -> None:
    model = torch.jit.script(Between(nn.ReLU()).eval())
    by_name = capture(model, non_traceable_module_name=["first"])
    (node,) = by_name.graph.find_nodes(op="call_module")
    assert (node.target, node.meta["island_reason"]) == ("first", "named in non_traceable_module_name")
    by_class = capture(model, non_traceable_module_class=[nn.Conv2d])
    assert [node.target for node in by_class.graph.find_nodes(op="call_module")] == ["first", "last"]
    torch.testing.assert_close(by_class(X), model(X))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 5, 2, bidirectional=True),
        nn.LSTM(4, 5, batch_first=True, proj_size=3),
        nn.GRU(4, 5, bias=False),
        nn.RNN(4, 5, nonlinearity="relu"),
        nn.RNN(4, 5, batch_first=True),
        nn.LSTMCell(4, 5),
        nn.GRUCell(4, 5, bias=False),
        nn.RNNCell(4, 5, nonlinearity="relu"),
        nn.RNNCell(4, 5),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_recurrent_layers_are_made_anew(layer: nn.Module) -> None:
    net, x = nn.Sequential(layer), torch.randn(3, 4) if "Cell" in type(layer).__name__ else torch.randn(6, 3, 4)
    captured = capture(reload(torch.jit.script(net)))
    (node,) = captured.graph.find_nodes(op="call_module")
    assert type(captured.get_submodule("0")) is type(layer) is node.meta["module_class"]
    assert "island_reason" not in node.meta
    torch.testing.assert_close(captured(x), net(x))


def test_a_plain_module_is_scripted_or_else_traced() -> None:
    net = small_net("ConvBnReluNet")
    x = torch.randn(2, 3, 32, 32)
    assert capture(net).meta["frontend_reason"] == "scripted by torch.jit.script"
    with pytest.raises(CaptureError, match="can't be scripted"):
        capture(Untyped())
    traced = capture(Untyped(), example=((x,), {}))
    assert traced.meta["frontend_reason"].startswith(
        "traced by torch.jit.trace, for inputs like the examples, because torch.jit.script refused it"
    )
    torch.testing.assert_close(traced(x), x * 2)


class Untyped(nn.Module):
    """What TorchScript has no word for."""

    def forward(self, x: Tensor) -> Tensor:
        return sum([x, x], start=torch.zeros(()))  # type: ignore[return-value]


class Fixes(nn.Module):
    """Code for which a trace warns that it fixes values, and that TorchScript can't script."""

    def forward(self, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        return x * 2 if x.shape[0] > int(x.dim() > 3) and float(x.numel()) and len(x) else x


@pytest.mark.filterwarnings("error")
def test_a_trace_of_ours_does_not_warn_of_what_it_fixes() -> None:
    captured = capture(Fixes(), example=((X,), {}))
    assert "for inputs like the examples" in captured.meta["frontend_reason"]
    assert torch.equal(captured(X), X * 2)


class Warns(nn.Module):
    """Warns while it is traced."""

    def forward(self, *x: Tensor) -> Tensor:
        warnings.warn("mine", UserWarning, stacklevel=1)
        return x[0] * 2


@pytest.mark.filterwarnings("error")
def test_scripting_warns_of_nothing_but_what_the_user_warns_of() -> None:
    capture(small_net("ConvBnReluNet"))
    with pytest.warns(UserWarning, match="mine"):
        capture(Warns(), example=((X,), {}))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_training_mode_batch_norm_of_a_trace() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).train()
    traced = torch.jit.trace(net, X, check_trace=False)
    with pytest.raises(CaptureError, match="traced in training mode") as caught:
        capture(traced, strict=True)
    assert "model.eval()" in str(caught.value.remedy)
    (island,) = capture(traced).graph.find_nodes(op="call_module")
    assert "traced in training mode" in island.meta["island_reason"]


class Extra(nn.Module):
    """A method beside forward."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x * 2


class Exported(nn.Module):
    """Only another method."""

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x * 2


def test_a_module_without_forward() -> None:
    with pytest.raises(CaptureError, match=r"has no forward") as caught:
        capture(torch.jit.script(Exported()))
    assert "other()" in str(caught.value.why)
    assert len(capture(torch.jit.script(Extra())).graph.nodes) == 2


def test_a_function_is_no_model() -> None:
    with pytest.raises(CaptureError, match=r"not an nn\.Module"):
        capture(torch.jit.script(_halve))
