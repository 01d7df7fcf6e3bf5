"""Int8 -> Int8: a table behind an op that can apply it on its way out becomes part of that op."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from qfx.lowering.emitters.compute import pointwise_table
from qfx.ops import lookup, qdq
from qfx.ops.table import op_at, op_of
from qfx.patterns.replacement import record_rule


def fuse_tables(gm: fx.GraphModule) -> fx.GraphModule:
    """Compose tables of tables, then give each to the op that makes its input, if nothing else reads that."""
    for node in list(gm.graph.nodes):
        table = _table(node)
        source = node.args[0] if table is not None else None
        if not isinstance(source, fx.Node) or len(source.users) != 1 or not _takes_table(source):
            continue
        assert table is not None
        _give(source, node, table)
        node.replace_all_uses_with(source)
        gm.graph.erase_node(node)
    gm.graph.lint()
    gm.recompile()
    return gm


def _table(node: fx.Node) -> Tensor | None:
    """The table that a node between two coded values amounts to, or None."""
    op = op_of(node)
    if op is None or node.meta["value_type"].kind != "code" or not isinstance(node.args[0], fx.Node):
        return None
    source = node.args[0].meta["value_type"]
    if source.kind != "code":
        return None
    if node.target is qdq.quantize:
        return lookup.requantize_table(source.qparams, node.meta["value_type"].qparams)
    return pointwise_table(op, node) if op.pointwise is not None else None


def _takes_table(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and "table" in op.epilogues and node.meta["value_type"].kind == "code"


def _give(source: fx.Node, node: fx.Node, table: Tensor) -> None:
    meta = source.meta
    meta["before_table"] = meta.get("before_table", meta["value_type"].qparams)
    meta["table"] = table if "table" not in meta else torch.take(table, meta["table"].to(torch.int64))
    meta["value_type"] = node.meta["value_type"]
    meta["fused"] = (*meta.get("fused", ()), (node.meta.get("module_path", ""), node.name))
    meta["codes_of"] = node.meta["codes_of"]
    op = op_at(node)
    meta["table_of"] = (*meta.get("table_of", ()), "requantize" if op.name == "quantize" else op.name)
    record_rule(source, "fuse_tables", [node], source)
