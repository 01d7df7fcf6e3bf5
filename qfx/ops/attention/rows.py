"""The row of attention, and the shape of its result."""

from __future__ import annotations

from functools import reduce
from typing import Any

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.attention import reference, samples
from qfx.ops.compute.rows import broadcast_shape, joint_length
from qfx.ops.dims import Length, Lengths, applied
from qfx.ops.epilogue import quantized, through_float64, value
from qfx.ops.table import Op, with_samples


def attention_shape(query: Lengths, key: Lengths, value: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    least = min(map(len, (query, key, value)))
    if least < 2:
        raise ValueError("attention takes matrices, or batches of them")
    batches = [x[:-2] for x in (query, key, value)]
    if least > 2:
        heads = joint_heads(query[-3], joint_length(key[-3], value[-3]))
        batches = [(*batch[:-1], heads) for batch in batches]
    return (*reduce(broadcast_shape, batches), query[-2], value[-1])


def joint_heads(queries: Length, keys: Length) -> Length:
    """How many heads the result has."""
    if keys in (queries, 1):
        return queries
    if queries == 1:
        return keys
    if not isinstance(queries, int):
        return applied(joint_heads, queries, keys)
    if isinstance(keys, int) and (keys == 0 or queries % keys):
        raise ValueError(f"{queries} heads of queries don't share {keys} of keys evenly")
    return queries


def _exact(*operands: Any, out: QParams | None, **attributes: Any) -> Tensor:
    if not attributes.get("integers", False):
        return through_float64(reference.attention, *operands, out=out, **attributes)
    floats: list[Any] = [x if x is None else value(x) for x in operands]
    return quantized(reference.attention(*floats, **attributes), out)


def _uncovered(*, integers: bool = False, **attributes: Any) -> str | None:
    return None if integers else "attention in float is computed by torch"


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "attention", reference.attention, ("query", "key", "value", "mask"), "float", shape=attention_shape,
        integer=_exact, family="attention", floats="integer", uncovered=_uncovered, by_rows=True,
        has_outliers=True, layout="rows", any_rank=True, follows_layout=False, kernels="attention: Attention",
    ),
)  # fmt: skip
