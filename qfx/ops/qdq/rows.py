"""The rows of the ops that quantize."""

from __future__ import annotations

from typing import Any

from qfx.ops.dims import Lengths
from qfx.ops.qdq import decode, dynamic, reference, samples
from qfx.ops.table import Op, with_samples


def decoded_shape(codes: Lengths, *operands: Any, shape: Lengths | None = None) -> Lengths:
    """Of a weight whose codes are packed as it says, else of its codes."""
    return codes if shape is None else tuple(shape)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    Op(
        "quantize", reference.quantize, ("x",), "none", family="quantize", any_rank=True,
        kernels="elementwise: Quantize QuantizePlanar3",
    ),
    Op(
        "dequantize", reference.dequantize, ("q",), "none", family="dequantize", any_rank=True,
        kernels="elementwise: Dequantize",
    ),
    Op(
        "requantize_dynamic", dynamic.requantize_dynamic, ("x",), "none", family="linear_dynamic",
        kernels="gemm: QFX_GEMM QFX_GEMM_S8 QFX_GEMM_STREAMS QFX_GEMM_PAIRED",
    ),
    Op(
        "decode_weight", decode.decode_weight, ("codes",), "none", shape=decoded_shape, family="linear_grouped",
        kernels="gemm: QFX_GEMM_IN_ORDER",
    ),
)  # fmt: skip
