"""The ops that quantize: what the QDQ level is made of."""

from qfx.ops.qdq.reference import dequantize, quantize

__all__ = ["dequantize", "quantize"]
