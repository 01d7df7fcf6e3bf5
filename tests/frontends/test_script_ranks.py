"""Ranks of values of TorchScript code are those that the table's shape functions say, whatever the code spells."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from qfx.frontends.torchscript import ranks
from qfx.frontends.torchscript.modules import ModuleTree
from qfx.frontends.torchscript.translate import Translator
from qfx.ir.user_names import graph_module_of
from tests.frontends.test_aliases import WRITTEN, Alias, spelled

CALLS = [alias for alias in WRITTEN if not isinstance(alias.spelling, type)]

TUPLES = ("max_pool", "embedding_bag")
"""Nodes whose further results are indices."""
NOT_TOLD = (
    torch.ops.aten._convolution_mode.default,
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.squeeze.default,
)
"""What has no row for these arguments, or depends on lengths."""


class _Values(fx.Interpreter):
    """Keeps what each node computes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


def found_and_seen(model: nn.Module, x: Tensor) -> Iterator[tuple[fx.Node, int | None, int]]:
    """The tensors that a traced model computes, with their ranks as found in its code, and as seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = torch.jit.trace(model, x.clone(), check_trace=False)
    t = Translator(ModuleTree(root), lambda path, module: None)
    placeholder = t.graph.placeholder("x")
    placeholder.meta.update(rank=x.dim(), module_path="", source=None)
    t.run([placeholder])
    interpreter = _Values(graph_module_of(t.attributes, t.graph, "Traced"))
    interpreter.run(x.clone())
    for node, value in interpreter.values.items():
        if node.op == "call_function" and isinstance(value, Tensor):
            yield node, ranks.rank_of(t, node), value.dim()


@pytest.mark.parametrize("alias", CALLS, ids=lambda alias: alias.name)
def test_what_code_spells_has_the_rank_that_its_row_says(alias: Alias) -> None:
    model, x = spelled(alias)
    for node, found, seen in found_and_seen(model, x):
        is_open = found is None and (node.target in NOT_TOLD or any(name in str(node.args[0]) for name in TUPLES))
        assert is_open or found == seen, node.format_node()
