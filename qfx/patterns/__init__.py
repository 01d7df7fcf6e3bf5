"""Rewriting of Normal graphs: patterns, a matcher, a driver, rules as data, and the passes made of them."""

from qfx.patterns.dead_code import eliminate_dead_code
from qfx.patterns.passes import (
    RULES,
    eliminate_identities,
    find_attention,
    fold_batch_norm,
    fold_padding,
    fold_scales,
    fuse_activations,
    fuse_gates,
    fuse_residuals,
    unify_pooling,
)
from qfx.patterns.registered import apply_registered_rules
from qfx.patterns.repeated import merge_repeated

__all__ = [
    "RULES",
    "apply_registered_rules",
    "eliminate_dead_code",
    "eliminate_identities",
    "find_attention",
    "fold_batch_norm",
    "fold_padding",
    "fold_scales",
    "fuse_activations",
    "fuse_gates",
    "fuse_residuals",
    "merge_repeated",
    "unify_pooling",
]
