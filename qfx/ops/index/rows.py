"""The rows of the ops on integers."""

from __future__ import annotations

from typing import Any

from qfx.ops.dims import Lengths
from qfx.ops.index import integer, reference, samples
from qfx.ops.table import Op, with_samples


def embedding_shape(indices: Lengths, weight: Lengths, **attributes: Any) -> Lengths:
    return (*indices, weight[1])


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "embedding", reference.embedding, (), "float", weights=("weight",), integers=("indices",), looks_up=True,
        shape=embedding_shape, integer=integer.embedding, family="embedding", floats="integer", any_rank=True,
    ),
    Op(
        "to_float32", reference.to_float32, ("x",), "float", integers=("x",), integer=integer.to_float32,
        family="to_f32", floats="integer", any_rank=True,
    ),
)  # fmt: skip
