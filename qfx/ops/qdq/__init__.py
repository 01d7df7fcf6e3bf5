"""The ops that quantize: what the QDQ level is made of."""

from qfx.ops.qdq.decode import decode_weight
from qfx.ops.qdq.reference import dequantize, quantize

__all__ = ["decode_weight", "dequantize", "quantize"]
