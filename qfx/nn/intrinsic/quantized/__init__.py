"""Fused quantized layers; batch norms are folded into their weights."""

from qfx.nn.intrinsic.quantized.fused import ConvReLU1d, ConvReLU2d, ConvReLU3d, LinearReLU

__all__ = ["ConvReLU1d", "ConvReLU2d", "ConvReLU3d", "LinearReLU"]
