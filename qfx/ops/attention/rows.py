"""The row of attention, and the shape of its result."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qfx.ir.types import QParams
from qfx.ops.attention import reference, samples
from qfx.ops.compute.rows import broadcast_shape
from qfx.ops.dims import Lengths
from qfx.ops.epilogue import quantized, through_float64, value
from qfx.ops.table import Op, with_samples


def attention_shape(query: Lengths, key: Lengths, value: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    if min(map(len, (query, key, value))) < 2:
        raise ValueError("attention takes matrices, or batches of them")
    batch = broadcast_shape(broadcast_shape(query[:-2], key[:-2]), value[:-2])
    return (*batch, query[-2], value[-1])


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
