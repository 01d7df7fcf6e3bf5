"""THE list of passes, one line each, grouped by level."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from qfx import patterns as rewrite
from qfx.frontends.normalize import normalize
from qfx.ir.passes import Pass, run_passes
from qfx.lowering.int8 import lower_to_int8
from qfx.lowering.tables import fuse_tables
from qfx.ops.table import op_of
from qfx.passes.convert import convert_to_qdq

NORMALIZE = (Pass(normalize, "captured", "normal"),)

FUSE = (
    Pass(rewrite.fold_batch_norm, "normal", "normal"),
    Pass(rewrite.eliminate_identities, "normal", "normal"),
    Pass(rewrite.apply_registered_rules, "normal", "normal"),
    Pass(rewrite.fold_scales, "normal", "normal"),
    Pass(rewrite.fold_padding, "normal", "normal"),
    Pass(rewrite.unify_pooling, "normal", "normal"),
    Pass(rewrite.fuse_activations, "normal", "normal"),
    Pass(rewrite.fuse_residuals, "normal", "normal"),
    Pass(rewrite.eliminate_dead_code, "normal", "normal"),
)

CONVERT = (Pass(convert_to_qdq, "observed", "qdq"),)

LOWER = (
    Pass(lower_to_int8, "qdq", "int8"),
    Pass(fuse_tables, "int8", "int8"),
)


def run(passes: tuple[Pass, ...], gm: fx.GraphModule) -> fx.GraphModule:
    """Run one of the groups above."""
    return run_passes(passes, gm, _op_name)


def insertion(insert: Callable[[fx.GraphModule], fx.GraphModule]) -> tuple[Pass, ...]:
    """The step from Normal to Observed, whose annotation depends on the user's qconfig_dict."""
    return (Pass(insert, "normal", "observed", "insert_observers"),)


def _op_name(target: object) -> str | None:
    op = op_of(target)
    return op.name if op is not None else None
