"""What an exported graph takes and returns, and the branches and loops in it."""

import copy
import dataclasses
import pickle
import warnings
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import export
from qfx.observed import capture_normal

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
EVERYTHING = {"": qfx.get_default_qconfig()}
Pair = namedtuple("Pair", ["y", "z"])


@dataclasses.dataclass
class Registered:
    y: Tensor
    z: Tensor


@dataclasses.dataclass
class Unregistered:
    y: Tensor


torch.export.register_dataclass(Registered)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)


class Nested(Layers):
    """Dicts, lists and tuples in and out, and inputs by keyword."""

    def forward(self, given: dict[str, Any], *, gain: Tensor, shift: Tensor | None = None) -> dict[str, Any]:
        x = self.conv(given["x"] + given["more"][0] * given["more"][1][0]) * gain
        if shift is not None:
            x = x + shift
        return {"y": self.head(x), "z": [x, (x + 1,)]}


@pytest.mark.parametrize("form", ["module", "program"])
@pytest.mark.parametrize("options", [("gain",), ("gain", "shift")])
def test_nested_and_keyword_inputs(form: str, options: tuple[str, ...]) -> None:
    net = Nested().eval()
    given, named = {"x": X, "more": [X, (X,)]}, dict.fromkeys(options, torch.tensor(2.0))
    model = torch.export.export(net, (given,), named) if form == "program" else net
    frontend = "auto" if form == "program" else "export"
    captured = capture_normal(model, {"given": given, **named}, frontend=frontend)
    with torch.no_grad():
        torch.testing.assert_close(captured(given, **named), net(given, **named))
    quantized = qfx.quantize_fx(model, EVERYTHING, [{"given": given, **named}], frontend=frontend)
    assert quantized(given, **named)["z"][1][0].shape == (4, 4, 8, 8)


class Returns(Layers):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return self.kind(self.head(x), x)


@pytest.mark.parametrize("kind", [Pair, Registered])
def test_results_keep_their_class(kind: Any) -> None:
    net = Returns(kind).eval()
    for model in (net, torch.export.export(net, (X,))):
        quantized = qfx.quantize_fx(model, EVERYTHING, [X], frontend="export")
        found, expected = quantized(X), net(X)
        assert type(found) is kind
        assert (found.y - expected.y).abs().max() < 0.1
        assert (found.z - expected.z).abs().max() < 0.1


class ReturnsUnregistered(Layers):
    def forward(self, x: Tensor) -> Unregistered:
        return Unregistered(self.head(self.conv(x)))


def test_a_class_that_torch_does_not_know_is_told() -> None:
    with pytest.raises(CaptureError, match="an output that is no tensor, tuple, list or dict"):
        export.capture(ReturnsUnregistered().eval(), example=((X,), {}))


class Branches(Layers):
    """``torch.cond`` on a value."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(torch.cond(x.sum() > 0, lambda t: t * 2 + 1, lambda t: t - self.head.bias[0], (x,)))


class BranchesOnAShape(Layers):
    """``torch.cond`` on a dim."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cond(x.shape[0] > 3, lambda t: t + 1, lambda t: t - 1, (self.conv(x),)))


class BranchesTwice(Layers):
    """A branch inside of a branch."""

    def forward(self, x: Tensor) -> Tensor:
        def inner(t: Tensor) -> Tensor:
            return torch.cond(t.sum() > 10, torch.sin, torch.cos, (t,))

        x = self.conv(x)
        return self.head(torch.cond(x.sum() > 0, inner, torch.neg, (x,)))


class Loops(Layers):
    """A loop on a value."""

    def forward(self, x: Tensor) -> Tensor:
        start = (torch.zeros((), dtype=torch.int64), self.conv(x))
        _, x = torch._higher_order_ops.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * 2), start)
        return self.head(x)


class Part(nn.Module):
    """One of these as a part."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.last = Branches(), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(x))


@pytest.mark.parametrize("form", ["module", "program"])
@pytest.mark.parametrize("kind", [Branches, BranchesOnAShape, BranchesTwice, Loops, Part])
def test_a_branch_or_loop_stays_float_and_the_rest_is_quantized(kind: type[nn.Module], form: str) -> None:
    net = kind().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own about its branches
        shapes = ({0: torch.export.Dim.AUTO},)
        model = torch.export.export(net, (X,), dynamic_shapes=shapes) if form == "program" else net
    quantized = qfx.quantize_fx(model, EVERYTHING, [X, -X, X[:2], -X[:2]], frontend="export")
    by_reason = [record for record in quantized.report if record.reason.startswith("control flow")]
    assert [record.decision for record in by_reason] == ["float"]
    assert "test_export_structure.py" in by_reason[0].reason
    assert {record.decision for record in quantized.report if record.op == "conv"} == {"int8"}
    others = [copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))]
    for x in (X, -X, X[:2]):
        found = quantized(x)
        assert all(torch.equal(other(x), found) for other in others)
        with torch.no_grad():
            assert (found - net(x)).abs().max() < 0.02 * net(x).abs().max()


def test_auto_takes_export_for_a_branch_of_the_model_itself() -> None:
    quantized = qfx.quantize_fx(Branches().eval(), EVERYTHING, [X])
    assert quantized.info["frontend"] == "export"


class Maps(Layers):
    """An operator with a function that nothing here runs."""

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.map import map as map_

        return self.head(map_(torch.sin, self.conv(x)))


def test_another_operator_on_functions_is_told() -> None:
    with pytest.raises(CaptureError, match="functions of its own") as caught:
        export.capture(Maps().eval(), example=((X,), {}))
    assert "test_export_structure.py" in str(caught.value.source)
