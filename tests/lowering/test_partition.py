"""What the runtime does not have runs in torch, between programs, and gives the same as the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import qfx
from qfx.ir.nodes import decision_of
from qfx.lowering.interpreter import interpret_integers

Body = Callable[["Around", Tensor], Any]


class Around(nn.Module):
    """Layers around something that is no table op, ``body``."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)
        self.lstm = nn.LSTM(4, 6, batch_first=True, proj_size=4)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def _rows(n: Around, x: Tensor) -> Tensor:
    return n.a(x).flatten(2).transpose(1, 2)


# The body, and whether each segment in turn is a program (else torch).
BODIES: dict[str, tuple[Body, list[bool]]] = {
    "nothing": (lambda n, x: n.fc(n.a(x).mean((2, 3))), [True]),
    "a function": (lambda n, x: n.b(n.a(x).flip(3)), [True, False, True]),
    "at the end": (lambda n, x: n.b(n.a(x)).cumsum(1), [True, False]),
    "at the beginning": (lambda n, x: n.a(x.flip(3)), [False, True]),
    "an item of a tuple": (lambda n, x: n.fc(n.lstm(_rows(n, x))[0][:, -1]), [True, False, True]),
    "an item of a result": (lambda n, x: n.b(n.a(x)).min(1)[0], [True, False]),
    "the largest": (lambda n, x: n.b(n.a(x)).max(1).values, [True]),
    "an operand of another dtype": (lambda n, x: n.b(n.a(x)).amax(1) * (x[:, 0, 2:, 2:] > 0), [True]),
    "the place of the largest": (lambda n, x: n.b(n.a(x)).max(1).indices, [True, False]),
    "a result of several": (lambda n, x: n.fc(n.a(x).mean((2, 3))).topk(2), [True, False]),
    "beside": (lambda n, x: n.b(n.a(x)) + n.a(x).flip(2), [True, False, True]),
    "bicubic": (lambda n, x: n.b(F.interpolate(n.a(x), scale_factor=2, mode="bicubic")), [True, False, True]),
    "nearest-exact": (lambda n, x: F.interpolate(n.a(x), size=(7, 9), mode="nearest-exact"), [True, False]),
    "shape of an input": (lambda n, x: n.b(n.a(x).flip(2).view(x.shape[0], 4, -1, 5)), [True, False, True]),
    "returned shapes": (lambda n, x: (n.a(x), x.shape[0], x.size(-1) * 2), [True, False]),
    "a matrix product": (lambda n, x: n.fc(_rows(n, x).transpose(1, 2) @ _rows(n, x)), [True]),
    "a sum of as many": (lambda n, x: n.b(n.a(x)).sum(1), [True]),
    "a sum of pixels": (lambda n, x: n.fc(n.a(x).sum((2, 3))), [True]),
    "only torch": (lambda n, x: x.cumsum(1), [False]),
    "no op": (lambda n, x: {"x": x, "one": (1, None)}, []),
    "a shape from before": (
        lambda n, x: n.b((y := n.a(x)).flip(2).view(y.shape[0], 4, y.shape[3], -1)),
        [True, False, True],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_segments_and_results(name: str) -> None:
    body, segments = BODIES[name]
    torch.manual_seed(0)
    model, x = Around(body).eval(), torch.randn(4, 3, 12, 12)
    quantized = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [x])
    assert [s.executable is not None for s in quantized.compiled.segments] == segments
    for batch in (4, 1):
        got = quantized(x[:batch])
        exact = interpret_integers(quantized.graph_module(), (x[:batch],)).output
        with torch.no_grad():
            want = model(x[:batch])
        assert pytree.tree_structure(got) == pytree.tree_structure(want)
        for ours, theirs, floats in zip(*map(pytree.tree_leaves, (got, exact, want)), strict=True):
            if not isinstance(floats, Tensor):
                assert ours == theirs == floats
                continue
            assert torch.equal(ours, theirs)
            assert ours.shape == floats.shape
            if floats.is_floating_point():
                assert (ours - floats).square().sum() < 1e-3 * floats.square().sum()


def test_every_float_node_of_the_report_says_why() -> None:
    for name, (body, _) in BODIES.items():
        report = qfx.prepare_fx(Around(body), {"": qfx.get_default_qconfig()}, (torch.randn(2, 3, 12, 12),))
        assert all(decision_of(n).reason for n in report.graph.nodes if "decision" in n.meta), name
