"""The rows of the ops that quantize."""

from __future__ import annotations

from qfx.ops.qdq import dynamic, reference, samples
from qfx.ops.table import Op, with_samples

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
)  # fmt: skip
