"""Capture by torch.export: the Normal form of symbolic tracing, free sizes, islands, programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx
from qfx.errors import CaptureError
from qfx.frontends import export, normalize, record_shapes, symbolic
from qfx.ir.printer import print_graph
from qfx.ops.spellings import ALIASES, Alias
from tests.frontends.test_aliases import WRITTEN, spelled
from tests.nets import ConvBnReluNet, DenseNet, MobileNet, ResidualNet, settle

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
EVERYTHING = {"": qfx.get_default_qconfig()}


NOT_SWAPPED = [
    alias for alias in WRITTEN if alias.spelling not in ("__radd__", "__rmul__") and alias.op != "embedding_bag"
]
"""A call of these two by name is exported with its operands exchanged. A constant says where bags of rows begin;
tests/lowering/test_bags.py has bags from every frontend."""


def dump(captured: Any, x: Tensor = X) -> str:
    """The Normal form with values numbered in order."""
    graph = normalize(record_shapes(captured, (x,))).graph
    for index, node in enumerate(graph.nodes):
        node.name = f"v{index}"
    return print_graph(graph)


class Attention(nn.Module):
    """Reads sizes, splits, indexes from the right, and shares a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.norm = nn.Conv2d(3, 16, 8, stride=8), nn.Linear(16, 48), nn.LayerNorm(16)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).flatten(2).transpose(1, 2))
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        return F.gelu(self.second(F.relu(self.first(x))))[..., -1, :] / 2 + 1


@pytest.mark.parametrize("kind", [ConvBnReluNet, ResidualNet, MobileNet, DenseNet, Attention])
def test_the_normal_form_is_that_of_symbolic_tracing(kind: type[nn.Module]) -> None:
    net = kind().eval()
    assert dump(export.capture(net, example=((X,), {}))) == dump(symbolic.capture(net))


def test_an_exported_model_quantizes_to_the_same_integers_and_runs_at_other_sizes() -> None:
    net = settle(ConvBnReluNet())
    traced, exported = (qfx.quantize_fx(net, EVERYTHING, [X], frontend=name) for name in ("symbolic", "export"))
    assert torch.equal(traced(X), exported(X))
    assert traced.state_dict().keys() == exported.state_dict().keys()
    other = torch.randn(2, 3, 40, 24)
    assert torch.equal(traced(other), exported(other))


def test_a_batch_of_one_leaves_the_batch_free() -> None:
    exported = qfx.quantize_fx(ConvBnReluNet().eval(), EVERYTHING, [X[:1]], frontend="export")
    assert exported(X).shape == (4, 10)


def test_nodes_know_module_path_class_and_line() -> None:
    captured = export.capture(ResidualNet().eval(), example=((X,), {}))
    by_name = {node.name: node for node in captured.graph.nodes}
    assert by_name["stem_0"].meta["module_path"] == "stem.0"
    assert by_name["stem_0"].meta["module_class"] is nn.Conv2d
    assert by_name["relu"].meta["alias"] is F.relu
    assert "x = F.relu(self.bn1(self.conv1(x)) + x)" in by_name["relu"].meta["source"]


def test_a_rule_for_a_layer_holds() -> None:
    rules = {**EVERYTHING, "object_type": [(nn.Linear, None)], "module_name": [("conv1", None)]}
    exported = qfx.quantize_fx(ConvBnReluNet().eval(), rules, [X], frontend="export")
    assert {r.name: r.decision for r in exported.report} | {"conv1": "float", "fc": "float"} == {
        r.name: r.decision for r in exported.report
    }


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class WithBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.branch = nn.Conv2d(3, 4, 1), Branch()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.branch(self.conv(x)).mean((2, 3))}


def test_a_module_that_can_not_be_exported_is_a_float_island() -> None:
    net = WithBranch().eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X], frontend="export")
    (island,) = [r for r in quantized.report if r.module_path == "branch"]
    assert "control flow" in island.reason
    for x in (X, -X[:2]):
        assert (quantized(x)["y"] - net(x)["y"]).abs().max() < 0.1


def test_strict_names_module_and_line() -> None:
    with pytest.raises(CaptureError) as caught:
        qfx.quantize_fx(WithBranch().eval(), EVERYTHING, [X], frontend="export", strict=True)
    assert caught.value.where == "branch"
    assert "x.sum() > 0" in (caught.value.source or "")


def test_named_modules_stay_whole() -> None:
    rules = {**EVERYTHING, "non_traceable_module_name": ["stem"]}
    quantized = qfx.quantize_fx(ResidualNet().eval(), rules, [X], frontend="export")
    assert [r.reason for r in quantized.report if r.module_path == "stem"] == ["named in non_traceable_module_name"]


def test_a_program_exported_in_training_mode_computes_as_in_evaluation() -> None:
    net = settle(ConvBnReluNet())
    program = torch.export.export(net.train(), (X,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    expected = qfx.quantize_fx(net.eval(), EVERYTHING, [X])
    assert torch.equal(qfx.quantize_fx(program, EVERYTHING, [X])(X[:3]), expected(X[:3]))


@pytest.mark.parametrize("alias", NOT_SWAPPED, ids=lambda alias: alias.name)
def test_every_spelling_has_the_normal_form_of_symbolic_tracing(alias: Alias) -> None:
    model, x = spelled(alias)
    assert dump(export.capture(model, example=((x,), {})), x) == dump(symbolic.capture(model), x)


def test_every_alias_of_an_op_names_a_row() -> None:
    ops = [alias for spelling, alias in ALIASES.items() if isinstance(spelling, torch._ops.OpOverload)]
    assert len(ops) > 200
    assert all(alias.op in qfx.ops.table.TABLE or alias.op == "" for alias in ops)
