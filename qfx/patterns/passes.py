"""The passes at the Normal level, each a set of rules run to a fixpoint."""

from __future__ import annotations

from torch import fx

from qfx.patterns.rewriter import Rule, rewrite
from qfx.patterns.rules import (
    activation,
    attention,
    batch_norm,
    gate,
    identity,
    matmul,
    norm,
    padding,
    part,
    pool,
    residual,
    rotary,
    scale,
    shuffle,
    sink,
)
from qfx.patterns.symbolic_shape import infer_extents

RULES: tuple[Rule, ...] = (
    *identity.RULES,
    *part.RULES,
    *shuffle.RULES,
    *norm.RULES,
    *pool.RULES,
    *batch_norm.RULES,
    *scale.RULES,
    *matmul.RULES,
    *attention.RULES,
    *rotary.RULES,
    *gate.RULES,
    *padding.RULES,
    *activation.RULES,
    *residual.RULES,
    *sink.RULES,
)
"""Every rule."""


def eliminate_identities(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Drops ops that return their operand, merges consecutive moves, recognizes channel shuffles and RMS norms."""
    return rewrite(infer_extents(graph_module), (*identity.RULES, *part.RULES, *shuffle.RULES, *norm.RULES))


def unify_pooling(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes every average over whole images a mean; between stubs, where it has its input's scale, a pool."""
    return rewrite(graph_module, pool.RULES)


def fold_batch_norm(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Folds channel affines into the convolutions and linears before them, in float64."""
    return rewrite(graph_module, (*batch_norm.RULES, *sink.RULES))


def fold_scales(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Folds products with constants into convolutions, linears and matmuls, or makes them channel affines."""
    return rewrite(graph_module, (*scale.RULES, *matmul.RULES, *batch_norm.RULES))


def find_attention(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes products with a softmax between them one op, and rotary embedding another."""
    return rewrite(infer_extents(graph_module), (*attention.RULES, *rotary.RULES, *identity.RULES))


def fuse_gates(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes products with an activation one op, where they are computed in float."""
    return rewrite(infer_extents(graph_module), gate.RULES)


def fold_padding(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Folds explicit padding into convolutions and pools."""
    return rewrite(graph_module, padding.RULES)


def fuse_activations(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes relu and clamp the epilogue of the op before them."""
    return rewrite(graph_module, (*activation.RULES, *sink.RULES))


def fuse_residuals(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Makes additions the epilogue of the convolution or linear before them, with the clamp behind them."""
    return rewrite(infer_extents(graph_module), (*residual.RULES, *activation.RULES))
